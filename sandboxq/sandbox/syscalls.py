"""System calls by name and machine, from the kernel's headers; what is not there has no number."""

from __future__ import annotations

# fmt: off
NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {
        "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311,
        "process_madvise": 440, "process_mrelease": 448, "pidfd_open": 434, "pidfd_getfd":
        438, "pidfd_send_signal": 424, "kcmp": 312, "mount": 165, "umount2": 166,
        "pivot_root": 155, "move_mount": 429, "open_tree": 428, "fsopen": 430, "fsconfig":
        431, "fsmount": 432, "fspick": 433, "mount_setattr": 442, "statmount": 457,
        "listmount": 458, "chroot": 161, "unshare": 272, "setns": 308, "bpf": 321,
        "perf_event_open": 298, "keyctl": 250, "add_key": 248, "request_key": 249,
        "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
        "userfaultfd": 323, "kexec_load": 246, "kexec_file_load": 320, "init_module": 175,
        "finit_module": 313, "delete_module": 176, "reboot": 169, "swapon": 167,
        "swapoff": 168, "settimeofday": 164, "clock_settime": 227, "clock_adjtime": 305,
        "adjtimex": 159, "acct": 163, "quotactl": 179, "quotactl_fd": 443,
        "open_by_handle_at": 304, "name_to_handle_at": 303, "mknod": 133, "mknodat": 259,
        "iopl": 172, "ioperm": 173, "modify_ldt": 154, "personality": 135, "sethostname":
        170, "setdomainname": 171, "syslog": 103, "vhangup": 153, "fanotify_init": 300,
        "fanotify_mark": 301, "chmod": 90, "fchmod": 91, "fchmodat": 268, "fchmodat2":
        452, "chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260, "utime": 132,
        "utimes": 235, "futimesat": 261, "utimensat": 280, "setxattr": 188, "lsetxattr":
        189, "fsetxattr": 190, "removexattr": 197, "lremovexattr": 198, "fremovexattr":
        199, "truncate": 76, "shmget": 29, "shmat": 30, "shmctl": 31, "msgget": 68,
        "msgsnd": 69, "msgrcv": 70, "msgctl": 71, "semget": 64, "semop": 65, "semctl": 66,
        "semtimedop": 220, "mq_open": 240, "mq_unlink": 241, "setpriority": 141,
        "ioprio_set": 251, "migrate_pages": 256, "move_pages": 279, "memfd_secret": 447,
        "memfd_create": 319, "tkill": 200, "kill": 62, "tgkill": 234, "rt_sigqueueinfo":
        129, "rt_tgsigqueueinfo": 297, "prlimit64": 302, "sched_setaffinity": 203,
        "sched_setscheduler": 144, "sched_setparam": 142, "sched_setattr": 314, "socket":
        41, "socketpair": 53, "connect": 42, "bind": 49, "listen": 50, "accept": 43,
        "accept4": 288, "clone": 56, "clone3": 435, "fork": 57, "vfork": 58, "execve": 59,
        "execveat": 322, "ioctl": 16, "fcntl": 72, "seccomp": 317,
    },
    "aarch64": {
        "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271,
        "process_madvise": 440, "process_mrelease": 448, "pidfd_open": 434, "pidfd_getfd":
        438, "pidfd_send_signal": 424, "kcmp": 272, "mount": 40, "umount2": 39,
        "pivot_root": 41, "move_mount": 429, "open_tree": 428, "fsopen": 430, "fsconfig":
        431, "fsmount": 432, "fspick": 433, "mount_setattr": 442, "statmount": 457,
        "listmount": 458, "name_to_handle_at": 264, "open_by_handle_at": 265, "chroot": 51,
        "unshare": 97, "setns": 268, "bpf": 280,
        "perf_event_open": 241, "keyctl": 219, "add_key": 217, "request_key": 218,
        "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
        "userfaultfd": 282, "kexec_load": 104, "kexec_file_load": 294, "init_module": 105,
        "finit_module": 273, "delete_module": 106, "reboot": 142, "swapon": 224,
        "swapoff": 225, "settimeofday": 170, "clock_settime": 112, "clock_adjtime": 266,
        "adjtimex": 171, "acct": 89, "quotactl": 60, "quotactl_fd": 443, "mknodat": 33,
        "personality": 92, "sethostname": 161, "setdomainname": 162, "syslog": 116,
        "vhangup": 58, "fanotify_init": 262, "fanotify_mark": 263, "fchmod": 52,
        "fchmodat": 53, "fchmodat2": 452, "fchown": 55, "fchownat": 54, "utimensat": 88,
        "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr":
        15, "fremovexattr": 16, "truncate": 45, "shmget": 194, "shmat": 196, "shmctl":
        195, "msgget": 186, "msgsnd": 189, "msgrcv": 188, "msgctl": 187, "semget": 190,
        "semop": 193, "semctl": 191, "semtimedop": 192, "mq_open": 180, "mq_unlink": 181,
        "setpriority": 140, "ioprio_set": 30, "migrate_pages": 238, "move_pages": 239,
        "memfd_secret": 447, "memfd_create": 279, "tkill": 130, "kill": 129, "tgkill":
        131, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240, "prlimit64": 261,
        "sched_setaffinity": 122, "sched_setscheduler": 119, "sched_setparam": 118,
        "sched_setattr": 274, "socket": 198, "socketpair": 199, "connect": 203, "bind":
        200, "listen": 201, "accept": 202, "accept4": 242, "clone": 220, "clone3": 435,
        "execve": 221, "execveat": 281, "ioctl": 29, "fcntl": 25, "seccomp": 277,
    },
}
# fmt: on
# Above this nothing is known, and so nothing is allowed.
NEWEST = 463
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # <linux/audit.h>

# Other processes, mounts, kernel, clock; what is kept on files beside their content, which Landlock
# does not see; memory that nobody counts.
# fmt: off
NEVER = (
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease",
    "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "kcmp", "mount", "umount2", "pivot_root",
    "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr",
    "statmount", "listmount", "chroot", "unshare", "setns", "bpf", "perf_event_open", "keyctl",
    "add_key", "request_key", "io_uring_setup", "io_uring_enter", "io_uring_register",
    "userfaultfd", "kexec_load", "kexec_file_load", "init_module", "finit_module",
    "delete_module", "reboot", "swapon", "swapoff", "settimeofday", "clock_settime",
    "clock_adjtime", "adjtimex", "acct", "quotactl", "quotactl_fd", "open_by_handle_at",
    "name_to_handle_at", "mknod", "mknodat", "iopl", "ioperm", "modify_ldt", "personality",
    "sethostname", "setdomainname", "syslog", "vhangup", "fanotify_init", "fanotify_mark",
    "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat",
    "utime", "utimes", "futimesat", "utimensat", "setxattr", "lsetxattr", "fsetxattr",
    "removexattr", "lremovexattr", "fremovexattr", "truncate", "shmget", "shmat", "shmctl",
    "msgget", "msgsnd", "msgrcv", "msgctl", "semget", "semop", "semctl", "semtimedop",
    "mq_open", "mq_unlink", "setpriority", "ioprio_set", "migrate_pages", "move_pages",
    "memfd_secret", "memfd_create", "tkill",
)
# fmt: on
# Their first argument is a process: this one, or 0 for the same.
# fmt: off
OF_ONESELF = (
    "kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "prlimit64", "sched_setaffinity",
    "sched_setscheduler", "sched_setparam", "sched_setattr",
)
# fmt: on
