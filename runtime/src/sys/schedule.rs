//! Scheduling class, I/O priority, memory policy, execution domain.

use super::checked;
use std::io;

/// `struct sched_attr` of `linux/sched/types.h`, version 1.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedAttr {
    /// The size of this structure in bytes.
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For the normal and batch policies.
    pub nice: i32,
    /// For the FIFO and round-robin policies.
    pub priority: u32,
    /// Nanoseconds, for the deadline policy.
    pub runtime: u64,
    /// Nanoseconds, for the deadline policy.
    pub deadline: u64,
    /// Nanoseconds, for the deadline policy.
    pub period: u64,
    /// Utilisation clamp, lower bound.
    pub util_min: u32,
    /// Utilisation clamp, upper bound.
    pub util_max: u32,
}

/// Sets the scheduling policy of the calling process.
pub fn sched_setattr(attr: &SchedAttr) -> io::Result<()> {
    // SAFETY: the kernel reads `size` bytes of a structure that is that long.
    checked(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(attr), 0) }).map(drop)
}

/// Sets the I/O priority of the calling process: `class` 1 real time, 2 best effort, 3 idle.
pub fn ioprio_set(class: u16, priority: u16) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    let value = libc::c_int::from(class) << 13 | libc::c_int::from(priority & 0x1fff);
    // SAFETY: three integers.
    checked(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) }).map(drop)
}

/// Sets which NUMA nodes the calling process gets its memory from (`set_mempolicy(2)`): `MPOL_*` and
/// `MPOL_F_*` bits, and a bit for each node.
pub fn set_mempolicy(mode: i32, nodes: &[u64]) -> io::Result<()> {
    // The kernel counts from one more than there are bits.
    let (mask, count) = match nodes.len() {
        0 => (std::ptr::null(), 0),
        words => (nodes.as_ptr(), words * 64 + 1),
    };
    // SAFETY: the kernel reads at most `count - 1` bits at `mask`, which are those of the slice.
    checked(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, count) }).map(drop)
}

/// Sets the execution domain (`personality(2)`).
pub fn set_personality(domain: u64) -> io::Result<()> {
    // SAFETY: one integer.
    checked(unsafe { libc::personality(domain) }.into()).map(drop)
}
