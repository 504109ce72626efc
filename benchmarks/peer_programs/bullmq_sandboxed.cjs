// The processor that BullMQ loads in its child processes.
'use strict';

const tasks = { noop: async () => null, stamp: async () => Number(process.hrtime.bigint()) };

module.exports = (job) => tasks[job.name](job);
