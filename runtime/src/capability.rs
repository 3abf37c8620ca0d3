//! The five capability sets.
//!
//! Order: the bounding set is cut while the process still has CAP_SETPCAP; the user changes with the
//! permitted set kept; then permitted, effective and inheritable are set in one call, and ambient last,
//! which the kernel allows only for what is permitted and inheritable.

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::io;

/// What can go wrong with capabilities.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A capability cannot leave the bounding set.
    #[error("process.capabilities.bounding: drop capability {number}")]
    Bounding {
        /// Its number.
        number: u32,
        /// Why not.
        source: io::Error,
    },
    /// The sets were refused.
    #[error(
        "process.capabilities: set permitted {permitted:#x}, effective {effective:#x}, inheritable {inheritable:#x}"
    )]
    Sets {
        /// As bits.
        permitted: u64,
        /// As bits.
        effective: u64,
        /// As bits.
        inheritable: u64,
        /// Why.
        source: io::Error,
    },
    /// Keeping capabilities over a change of the user was refused.
    #[error("process.capabilities: keep them while the user changes")]
    Keep {
        /// Why.
        source: io::Error,
    },
    /// A capability cannot be ambient.
    #[error("process.capabilities.ambient: raise capability {number}")]
    Ambient {
        /// Its number.
        number: u32,
        /// Why not.
        source: io::Error,
    },
}

/// The five sets as bits, bit n for capability n of `linux/capability.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    /// What can ever be gained.
    pub bounding: u64,
    /// What is checked.
    pub effective: u64,
    /// What goes through an exec of a file that lets it.
    pub inheritable: u64,
    /// What can be made effective.
    pub permitted: u64,
    /// What goes through any exec.
    pub ambient: u64,
}

impl Sets {
    /// The sets of a configuration; a set that is not there is empty.
    pub fn of(capabilities: &LinuxCapabilities) -> Sets {
        let bits =
            |set: &Option<Capabilities>| set.iter().flatten().fold(0, |bits, &c| bits | 1 << number(c));
        Sets {
            bounding: bits(capabilities.bounding()),
            effective: bits(capabilities.effective()),
            inheritable: bits(capabilities.inheritable()),
            permitted: bits(capabilities.permitted()),
            ambient: bits(capabilities.ambient()),
        }
    }

    /// Cuts the bounding set.
    pub fn limit_bounding(&self) -> Result<(), Error> {
        for number in (0..64).filter(|n| self.bounding & 1 << n == 0) {
            let one = CapabilitySet::from_bits_retain(1 << number);
            match rustix::thread::remove_capability_from_bounding_set(one) {
                Ok(()) => {}
                // Beyond the last capability of this kernel.
                Err(Errno::INVAL) => break,
                Err(e) => return Err(Error::Bounding { number, source: e.into() }),
            }
        }
        Ok(())
    }

    /// Sets permitted, effective, inheritable, then ambient.
    pub fn apply(&self) -> Result<(), Error> {
        let sets = CapabilitySets {
            effective: CapabilitySet::from_bits_retain(self.effective),
            permitted: CapabilitySet::from_bits_retain(self.permitted),
            inheritable: CapabilitySet::from_bits_retain(self.inheritable),
        };
        rustix::thread::set_capabilities(None, sets).map_err(|e| Error::Sets {
            permitted: self.permitted,
            effective: self.effective,
            inheritable: self.inheritable,
            source: e.into(),
        })?;
        let _ = rustix::thread::clear_ambient_capability_set();
        // The kernel would refuse one that is not in both other sets; callers list them all the same.
        let ambient = self.ambient & self.permitted & self.inheritable;
        for number in (0..64).filter(|n| ambient & 1 << n != 0) {
            let one = CapabilitySet::from_bits_retain(1 << number);
            rustix::thread::configure_capability_in_ambient_set(one, true)
                .map_err(|e| Error::Ambient { number, source: e.into() })?;
        }
        Ok(())
    }
}

/// Keeps the permitted set while the user changes, and makes it effective again afterwards.
pub fn keep_over_user_change(change: impl FnOnce() -> io::Result<()>) -> Result<io::Result<()>, Error> {
    rustix::thread::set_keep_capabilities(true).map_err(|e| Error::Keep { source: e.into() })?;
    let changed = change();
    let sets = rustix::thread::capabilities(None).map_err(|e| Error::Keep { source: e.into() })?;
    if sets.effective != sets.permitted {
        let all = CapabilitySets { effective: sets.permitted, ..sets };
        rustix::thread::set_capabilities(None, all).map_err(|e| Error::Keep { source: e.into() })?;
    }
    rustix::thread::set_keep_capabilities(false).map_err(|e| Error::Keep { source: e.into() })?;
    Ok(changed)
}

/// All capabilities by number, in order.
pub const ALL: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

fn number(capability: Capability) -> usize {
    ALL.iter().position(|&c| c == capability).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_the_kernels() {
        for (capability, bit) in [
            (Capability::Chown, CapabilitySet::CHOWN),
            (Capability::NetBindService, CapabilitySet::NET_BIND_SERVICE),
            (Capability::SysAdmin, CapabilitySet::SYS_ADMIN),
            (Capability::Setfcap, CapabilitySet::SETFCAP),
            (Capability::Bpf, CapabilitySet::BPF),
            (Capability::CheckpointRestore, CapabilitySet::CHECKPOINT_RESTORE),
        ] {
            assert_eq!(1 << number(capability), bit.bits(), "{capability}");
        }
    }

    #[test]
    fn sets_are_read_by_name_with_and_without_prefix() {
        let json = r#"{"bounding":["CAP_KILL","CHOWN"],"ambient":[]}"#;
        let sets = Sets::of(&serde_json::from_str(json).unwrap());
        assert_eq!(sets, Sets { bounding: 1 << 5 | 1, ..Sets::default() });
    }
}
