"""Every system call: may a child of `strict` make it, and why.

    Calls(why, "name number-on-x86_64 number-on-aarch64, ...", answer)

A call that is not here is refused with ENOSYS, as by a kernel that does not have it. So is what
the kernel will have in future: a test asks that each call of the newest headers is in the table.
"""

from __future__ import annotations

import errno
from typing import NamedTuple

ALLOWED = 0
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # <linux/audit.h>
SECCOMP = {"x86_64": 317, "aarch64": 277}
_COLUMNS = {"x86_64": 1, "aarch64": 2}


class Calls(NamedTuple):
    """Calls that are treated alike.

    ``answer`` is an errno, or ALLOWED. With ``grant`` they are allowed where the policy has it;
    with ``is_examined`` seccomp.py has a rule for each, which decides by the arguments.
    """

    why: str
    numbers: str
    answer: int
    grant: str = ""
    is_examined: bool = False


class Call(NamedTuple):
    """One call of one machine, and how it is treated."""

    name: str
    number: int
    treatment: Calls


def is_known(machine: str) -> bool:
    """Tell whether there is a table for this machine (``os.uname().machine``)."""
    return machine in _COLUMNS


def calls_of(machine: str) -> dict[str, Call]:
    """Return the calls of a machine by name; not kept, for children would inherit it."""
    column = _COLUMNS[machine]
    found = {}
    for treatment in TABLE:
        for entry in treatment.numbers.split(","):
            words = entry.split()
            if words[column] != "-":
                found[words[0]] = Call(words[0], int(words[column]), treatment)
    return found


def number_of(name: str, machine: str) -> int:
    """Return the number of a call. Raises: KeyError: this machine does not have it."""
    return calls_of(machine)[name].number


TABLE = (
    Calls(
        "Files that are open, and the places that Landlock opens or refuses.",
        """
        read 0 63, write 1 64, open 2 -, openat 257 56, openat2 437 437, creat 85 -, close 3 57,
        close_range 436 436, lseek 8 62, pread64 17 67, pwrite64 18 68, readv 19 65, writev 20 66,
        preadv 295 69, pwritev 296 70, preadv2 327 286, pwritev2 328 287, dup 32 23, dup2 33 -,
        dup3 292 24, sendfile 40 71, copy_file_range 326 285, fsync 74 82, fdatasync 75 83,
        sync_file_range 277 84, ftruncate 77 46, fadvise64 221 223, readahead 187 213,
        getdents 78 -, getdents64 217 61, getcwd 79 17, chdir 80 49, fchdir 81 50, rename 82 -,
        renameat 264 38, renameat2 316 276, mkdir 83 -, mkdirat 258 34, rmdir 84 -, link 86 -,
        linkat 265 37, unlink 87 -, unlinkat 263 35, symlink 88 -, symlinkat 266 36, umask 95 166
        """,
        ALLOWED,
    ),
    Calls(
        "What is told of a file beside its content: names, sizes, times. Nothing hides these.",
        """
        stat 4 -, fstat 5 80, lstat 6 -, newfstatat 262 -, fstatat - 79, statx 332 291,
        access 21 -, faccessat 269 48, faccessat2 439 439, readlink 89 -, readlinkat 267 78,
        statfs 137 43, fstatfs 138 44
        """,
        ALLOWED,
    ),
    Calls(
        "Waiting, and ways from a process to itself.",
        """
        poll 7 -, ppoll 271 73, select 23 -, pselect6 270 72, epoll_create 213 -,
        epoll_create1 291 20, epoll_ctl 233 21, epoll_wait 232 -, epoll_pwait 281 22,
        epoll_pwait2 441 441, eventfd 284 -, eventfd2 290 19, pipe 22 -, pipe2 293 59,
        timerfd_create 283 85, timerfd_settime 286 86, timerfd_gettime 287 87, signalfd 282 -,
        signalfd4 289 74
        """,
        ALLOWED,
    ),
    Calls(
        "Memory of this process. What is locked or mapped is counted like any other.",
        """
        mprotect 10 226, munmap 11 215, brk 12 214, mremap 25 216, msync 26 227, mincore 27 232,
        mlock 149 228, munlock 150 229, mlockall 151 230, munlockall 152 231, mlock2 325 284,
        mbind 237 235, set_mempolicy 238 237, get_mempolicy 239 236,
        set_mempolicy_home_node 450 450, pkey_mprotect 329 288, pkey_alloc 330 289,
        pkey_free 331 290, membarrier 324 283, map_shadow_stack 453 453, mseal 462 462
        """,
        ALLOWED,
    ),
    Calls(
        "Threads of this process, and their locks.",
        """
        futex 202 98, futex_waitv 449 449, futex_wake 454 454, futex_wait 455 455,
        futex_requeue 456 456, set_robust_list 273 99, set_tid_address 218 96, rseq 334 293,
        rseq_slice_yield 471 471, sched_yield 24 124, gettid 186 178, getcpu 309 168,
        arch_prctl 158 -
        """,
        ALLOWED,
    ),
    Calls(
        "Signals that this process handles, and its timers.",
        """
        rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, rt_sigpending 127 136,
        rt_sigtimedwait 128 137, rt_sigsuspend 130 133, sigaltstack 131 132, pause 34 -,
        alarm 37 -, getitimer 36 102, setitimer 38 103, timer_settime 223 110,
        timer_gettime 224 108, timer_getoverrun 225 109, timer_delete 226 111, nanosleep 35 101,
        restart_syscall 219 128
        """,
        ALLOWED,
    ),
    Calls(
        "The end of this process and of those that it has started.",
        """
        exit 60 93, exit_group 231 94, wait4 61 260, waitid 247 95
        """,
        ALLOWED,
    ),
    Calls(
        "What this process and this machine are. Whether another process is there is no secret.",
        """
        getpid 39 172, getppid 110 173, getpgrp 111 -, getpgid 121 155, getsid 124 156,
        getuid 102 174, geteuid 107 175, getgid 104 176, getegid 108 177, getresuid 118 148,
        getresgid 120 150, getgroups 115 158, capget 125 90, getrlimit 97 163, setrlimit 160 164,
        getrusage 98 165, times 100 153, sysinfo 99 179, uname 63 160, getpriority 140 141,
        ioprio_get 252 31, sched_getparam 143 121, sched_getscheduler 145 120,
        sched_get_priority_max 146 125, sched_get_priority_min 147 126,
        sched_rr_get_interval 148 127, sched_getaffinity 204 123, sched_getattr 315 275,
        gettimeofday 96 169, time 201 -, getrandom 318 278
        """,
        ALLOWED,
    ),
    Calls(
        "Sockets that are there: pairs, and those that a grant has made.",
        """
        sendto 44 206, recvfrom 45 207, sendmsg 46 211, recvmsg 47 212, sendmmsg 307 269,
        recvmmsg 299 243, shutdown 48 210, getsockname 51 204, getpeername 52 205,
        getsockopt 55 209
        """,
        ALLOWED,
    ),
    Calls(
        "Left by the kernel where somebody traces this process with uprobes.",
        """
        uretprobe 335 -, uprobe 336 -
        """,
        ALLOWED,
    ),
    Calls(
        "Their arguments decide: see sandbox/mechanisms/seccomp.py.",
        """
        fcntl 72 25, ioctl 16 29, prctl 157 167, personality 135 92, mmap 9 222, madvise 28 233,
        kill 62 129, tgkill 234 131, rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240,
        prlimit64 302 261, sched_setaffinity 203 122, sched_setscheduler 144 119,
        sched_setparam 142 118, sched_setattr 314 274, clock_gettime 228 113, clock_getres 229 114,
        clock_nanosleep 230 115, timer_create 222 107, setsockopt 54 208, socketpair 53 199,
        clone 56 220
        """,
        errno.EPERM,
        is_examined=True,
    ),
    Calls(
        "The network.",
        """
        connect 42 203, bind 49 200, listen 50 201, accept 43 202, accept4 288 242
        """,
        errno.EACCES,
        grant="network",
    ),
    Calls(
        "The network; with the grant, the arguments decide.",
        """
        socket 41 198
        """,
        errno.EACCES,
        grant="network",
        is_examined=True,
    ),
    Calls(
        "New processes.",
        """
        fork 57 -, vfork 58 -
        """,
        errno.EAGAIN,
        grant="subprocess",
    ),
    Calls(
        "New programs, and their groups.",
        """
        execve 59 221, execveat 322 281, setpgid 109 154, setsid 112 157
        """,
        errno.EPERM,
        grant="subprocess",
    ),
    Calls(
        "The flags lie in memory: the C library takes clone.",
        """
        clone3 435 435
        """,
        errno.ENOSYS,
    ),
    Calls(
        "Other processes.",
        """
        ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271,
        process_madvise 440 440, process_mrelease 448 448, pidfd_open 434 434, pidfd_getfd 438 438,
        pidfd_send_signal 424 424, kcmp 312 272, tkill 200 130, get_robust_list 274 100,
        migrate_pages 256 238, move_pages 279 239, setpriority 141 140, ioprio_set 251 30
        """,
        errno.EPERM,
    ),
    Calls(
        "Another identity, for which no job has a right.",
        """
        setuid 105 146, setgid 106 144, setreuid 113 145, setregid 114 143, setresuid 117 147,
        setresgid 119 149, setfsuid 122 151, setfsgid 123 152, setgroups 116 159, capset 126 91
        """,
        errno.EPERM,
    ),
    Calls(
        "Mounts, namespaces, and places without a path, which Landlock does not see.",
        """
        mount 165 40, umount2 166 39, pivot_root 155 41, move_mount 429 429, open_tree 428 428,
        open_tree_attr 467 467, fsopen 430 430, fsconfig 431 431, fsmount 432 432, fspick 433 433,
        mount_setattr 442 442, statmount 457 457, listmount 458 458, chroot 161 51, unshare 272 97,
        setns 308 268, listns 470 470, open_by_handle_at 304 265, name_to_handle_at 303 264
        """,
        errno.EPERM,
    ),
    Calls(
        "The machine: its kernel, clock, name, disks, keys, and what watches others.",
        """
        bpf 321 280, perf_event_open 298 241, seccomp 317 277, keyctl 250 219, add_key 248 217,
        request_key 249 218, io_uring_setup 425 425, io_uring_enter 426 426,
        io_uring_register 427 427, userfaultfd 323 282, kexec_load 246 104,
        kexec_file_load 320 294, init_module 175 105, finit_module 313 273, delete_module 176 106,
        reboot 169 142, swapon 167 224, swapoff 168 225, settimeofday 164 170,
        clock_settime 227 112, clock_adjtime 305 266, adjtimex 159 171, acct 163 89,
        quotactl 179 60, quotactl_fd 443 443, mknod 133 -, mknodat 259 33, iopl 172 -,
        ioperm 173 -, modify_ldt 154 -, sethostname 170 161, setdomainname 171 162, syslog 103 116,
        vhangup 153 58, fanotify_init 300 262, fanotify_mark 301 263, sync 162 81, syncfs 306 267
        """,
        errno.EPERM,
    ),
    Calls(
        "What is kept on a file beside its content, for which Landlock has no right.",
        """
        chmod 90 -, fchmod 91 52, fchmodat 268 53, fchmodat2 452 452, chown 92 -, fchown 93 55,
        lchown 94 -, fchownat 260 54, utime 132 -, utimes 235 -, futimesat 261 -, utimensat 280 88,
        setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7, setxattrat 463 463, removexattr 197 14,
        lremovexattr 198 15, fremovexattr 199 16, removexattrat 466 466, file_setattr 469 469,
        truncate 76 45
        """,
        errno.EPERM,
    ),
    Calls(
        "The same, read: a file's attributes may hold what its modes do not show.",
        """
        getxattr 191 8, lgetxattr 192 9, fgetxattr 193 10, getxattrat 464 464, listxattr 194 11,
        llistxattr 195 12, flistxattr 196 13, listxattrat 465 465, file_getattr 468 468
        """,
        errno.EOPNOTSUPP,
    ),
    Calls(
        "Memory and disk without a byte written: posix_fallocate writes them instead.",
        """
        fallocate 285 47
        """,
        errno.EOPNOTSUPP,
    ),
    Calls(
        "Memory that nobody counts, or that stays when the process is gone.",
        """
        memfd_create 319 279, memfd_secret 447 447, shmget 29 194, shmat 30 196, shmctl 31 195,
        shmdt 67 197, msgget 68 186, msgsnd 69 189, msgrcv 70 188, msgctl 71 187, semget 64 190,
        semop 65 193, semctl 66 191, semtimedop 220 192, mq_open 240 180, mq_unlink 241 181,
        mq_timedsend 242 182, mq_timedreceive 243 183, mq_notify 244 184, mq_getsetattr 245 185
        """,
        errno.EPERM,
    ),
    Calls(
        "Pages that are pinned in a pipe; programs copy instead.",
        """
        splice 275 76, tee 276 77, vmsplice 278 75
        """,
        errno.EINVAL,
    ),
    Calls(
        "Seen or felt by others: events of files, locks on files that may only be read, rings.",
        """
        inotify_init 253 -, inotify_init1 294 26, inotify_add_watch 254 27,
        inotify_rm_watch 255 28, flock 73 32, io_setup 206 0, io_destroy 207 1, io_submit 209 2,
        io_cancel 210 3, io_getevents 208 4, io_pgetevents 333 292, cachestat 451 451
        """,
        errno.ENOSYS,
    ),
    Calls(
        "A program that restricts itself does without.",
        """
        landlock_create_ruleset 444 444, landlock_add_rule 445 445, landlock_restrict_self 446 446,
        lsm_get_self_attr 459 459, lsm_set_self_attr 460 460, lsm_list_modules 461 461
        """,
        errno.ENOSYS,
    ),
    Calls(
        "Of the past: the kernel or the C library has something else.",
        """
        remap_file_pages 216 234, ustat 136 -, sysfs 139 -, uselib 134 -, _sysctl 156 -,
        create_module 174 -, get_kernel_syms 177 -, query_module 178 -, nfsservctl 180 42,
        getpmsg 181 -, putpmsg 182 -, afs_syscall 183 -, tuxcall 184 -, security 185 -,
        vserver 236 -, lookup_dcookie 212 18, epoll_ctl_old 214 -, epoll_wait_old 215 -,
        set_thread_area 205 -, get_thread_area 211 -
        """,
        errno.ENOSYS,
    ),
)
