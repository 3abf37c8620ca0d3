//! Whether a guest's instructions run on the processor itself or are translated.
//!
//! This is decided, not tried. A `/dev/kvm` that can be opened proves little: a software KVM offers one on processors
//! without virtualization, takes ioctls, and hangs a stock kernel. Hardware virtualization shows in the processor's
//! flags (`vmx` or `svm`), so KVM is used where both are there, and QEMU's `kvm:tcg`, which asks only the device, never.

use std::fmt;

/// What runs a guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor, by the kernel's virtual machines.
    Kvm,
    /// QEMU's translator: some ten times slower, and everywhere.
    Tcg,
}

/// What this host has to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostCpu {
    /// The processor's flags include `vmx` or `svm`.
    pub virtualization: bool,
    /// `/dev/kvm` can be opened for reading and writing.
    pub kvm_opens: bool,
}

/// The accelerator for a host.
pub fn decide(host: HostCpu) -> Accelerator {
    if host.virtualization && host.kvm_opens { Accelerator::Kvm } else { Accelerator::Tcg }
}

impl HostCpu {
    /// This host, as it says itself. What cannot be read is not there.
    pub fn detect() -> HostCpu {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let kvm = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
        HostCpu { virtualization: has_virtualization(&cpuinfo), kvm_opens: kvm.is_ok() }
    }
}

/// True if the text of `/proc/cpuinfo` lists `vmx` or `svm` among the flags of its processors.
fn has_virtualization(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(key, _)| key.trim_end() == "flags")
        .any(|(_, flags)| flags.split_ascii_whitespace().any(|flag| flag == "vmx" || flag == "svm"))
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_needs_the_processor_and_the_device() {
        for (virtualization, kvm_opens, expected) in [
            (true, true, Accelerator::Kvm),
            (true, false, Accelerator::Tcg),
            (false, true, Accelerator::Tcg),
            (false, false, Accelerator::Tcg),
        ] {
            assert_eq!(decide(HostCpu { virtualization, kvm_opens }), expected);
        }
    }

    #[test]
    fn a_flag_counts_as_a_whole_word_in_the_flags_line_only() {
        assert!(has_virtualization("processor\t: 0\nflags\t\t: fpu vmx sse\n"));
        assert!(has_virtualization("flags\t\t: fpu svm\n"));
        assert!(!has_virtualization("flags\t\t: fpu svm_lock npt\nvmx flags\t: ept\n"));
        assert!(!has_virtualization("model name\t: svm vmx\n"));
        assert!(!has_virtualization(""));
    }
}
