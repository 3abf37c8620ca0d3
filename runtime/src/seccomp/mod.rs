//! Filtering system calls: the specification's profiles, compiled to the kernel's filter language.
//!
//! [`table`] knows the numbers of calls, [`compile`] makes the program, and this module reads the
//! profile and installs it. There is no C library in between: a profile compiles in well under a
//! millisecond.

pub mod compile;
pub mod table;

use crate::sys::seccomp::{SockFilter, install};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use table::Architecture;

/// What can go wrong with a filter.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An argument has an index that no call has.
    #[error("linux.seccomp.syscalls[{index}].args: there is no argument {argument}, only 0 to 5")]
    Argument {
        /// The rule's place in the list.
        index: usize,
        /// As written.
        argument: usize,
    },
    /// An errno beyond what the kernel returns.
    #[error("linux.seccomp: errnoRet {errno} is more than 4095")]
    Errno {
        /// As written.
        errno: u32,
    },
    /// Notifications need somebody to send them to.
    #[error("linux.seccomp: SCMP_ACT_NOTIFY needs listenerPath")]
    NoListener,
    /// Everything would wait for a listener, also what it takes to reach it.
    #[error("linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be the default")]
    DefaultNotify,
    /// The program is longer than the kernel takes.
    #[error("linux.seccomp: the filter has {length} instructions, at most 4096 are possible")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// The kernel refused it.
    #[error("linux.seccomp: install the filter of {length} instructions")]
    Install {
        /// Its length.
        length: usize,
        /// Why.
        source: io::Error,
    },
}

/// A compiled profile.
#[derive(Clone, Debug)]
pub struct Filter {
    program: Vec<SockFilter>,
    flags: u64,
    /// Where the notification descriptor is sent to, if there is one.
    pub listener: Option<PathBuf>,
    /// What is sent along with it.
    pub metadata: String,
}

impl Filter {
    /// Compiles a profile.
    pub fn new(profile: &LinuxSeccomp) -> Result<Filter, Error> {
        let rules = rules(profile)?;
        let default = action(profile.default_action(), profile.default_errno_ret())?;
        let program = compile::compile(&architectures(profile), default, &rules);
        if program.len() > 4096 {
            return Err(Error::TooLong { length: program.len() });
        }
        let notifies =
            profile.syscalls().iter().flatten().any(|s| s.action() == LinuxSeccompAction::ScmpActNotify);
        if profile.default_action() == LinuxSeccompAction::ScmpActNotify {
            return Err(Error::DefaultNotify);
        }
        let listener = profile.listener_path().clone().filter(|_| notifies);
        if notifies && listener.is_none() {
            return Err(Error::NoListener);
        }
        let metadata = profile.listener_metadata().clone().unwrap_or_default();
        Ok(Filter { program, flags: flags(profile, notifies), listener, metadata })
    }

    /// Installs the filter for the calling process. Returns the notification descriptor, if any.
    pub fn install(&self) -> Result<Option<OwnedFd>, Error> {
        install(&self.program, self.flags)
            .map_err(|source| Error::Install { length: self.program.len(), source })
    }
}

/// The names of the actions, operators, architectures and flags that profiles may use, for
/// `kitc features`.
pub fn known() -> serde_json::Value {
    serde_json::json!({
        "enabled": true,
        "actions": [
            "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
            "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
        ],
        "operators": [
            "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
            "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE",
        ],
        "archs": match Architecture::NATIVE {
            Architecture::Aarch64 => vec!["SCMP_ARCH_AARCH64"],
            _ => vec!["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"],
        },
        "knownFlags": KNOWN_FLAGS,
        "supportedFlags": KNOWN_FLAGS,
    })
}

const KNOWN_FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

fn flags(profile: &LinuxSeccomp, notifies: bool) -> u64 {
    const NEW_LISTENER: u64 = 1 << 3;
    let bit = |flag: &LinuxSeccompFilterFlag| match flag {
        // This process has one thread, and the kernel refuses it together with a listener.
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => 1 << 1,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => 1 << 2,
        // Means nothing, and is refused, without a listener.
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if notifies => 1 << 5,
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
    };
    let asked = profile.flags().iter().flatten().fold(0, |bits, flag| bits | bit(flag));
    asked | if notifies { NEW_LISTENER } else { 0 }
}

/// The listed architectures that this kernel can run programs of, and this one.
fn architectures(profile: &LinuxSeccomp) -> Vec<Architecture> {
    let mut list = vec![Architecture::NATIVE];
    let x86 = Architecture::NATIVE == Architecture::X86_64;
    if x86 && profile.architectures().iter().flatten().any(|&a| a == Arch::ScmpArchX86) {
        list.push(Architecture::X86);
    }
    list
}

/// The kernel's return value for an action.
fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, Error> {
    let data = errno.unwrap_or(libc::EPERM as u32);
    if data > 4095 {
        return Err(Error::Errno { errno: data });
    }
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => 0,
        LinuxSeccompAction::ScmpActKillProcess => compile::KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => 0x0003_0000,
        LinuxSeccompAction::ScmpActErrno => compile::ERRNO | data,
        LinuxSeccompAction::ScmpActNotify => 0x7fc0_0000,
        LinuxSeccompAction::ScmpActTrace => 0x7ff0_0000 | data,
        LinuxSeccompAction::ScmpActLog => 0x7ffc_0000,
        LinuxSeccompAction::ScmpActAllow => compile::ALLOW,
    })
}

/// The profile's rules, each with the names it is for.
fn rules(profile: &LinuxSeccomp) -> Result<Vec<compile::Rule<'_>>, Error> {
    let mut rules = Vec::new();
    for (index, call) in profile.syscalls().iter().flatten().enumerate() {
        let action = action(call.action(), call.errno_ret())?;
        let args = call.args().as_deref().unwrap_or_default();
        if let Some(arg) = args.iter().find(|a| a.index() > 5) {
            return Err(Error::Argument { index, argument: arg.index() });
        }
        let conditions: Vec<compile::Condition> = args.iter().map(condition).collect();
        // Two conditions on one argument are alternatives, as the reference implementation has it.
        let repeated = (0..6).any(|n| conditions.iter().filter(|c| c.argument == n).count() > 1);
        let alternatives: Vec<Vec<compile::Condition>> =
            if repeated { conditions.into_iter().map(|c| vec![c]).collect() } else { vec![conditions] };
        rules.extend(alternatives.into_iter().map(|conditions| compile::Rule {
            names: call.names(),
            conditions,
            action,
        }));
    }
    Ok(rules)
}

fn condition(arg: &LinuxSeccompArg) -> compile::Condition {
    use compile::Test;
    let value = arg.value();
    let test = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => Test::NotEqual(value),
        LinuxSeccompOperator::ScmpCmpLt => Test::Less(value),
        LinuxSeccompOperator::ScmpCmpLe => Test::LessOrEqual(value),
        LinuxSeccompOperator::ScmpCmpEq => Test::Equal(value),
        LinuxSeccompOperator::ScmpCmpGe => Test::GreaterOrEqual(value),
        LinuxSeccompOperator::ScmpCmpGt => Test::Greater(value),
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            Test::Masked { mask: value, equals: arg.value_two().unwrap_or(0) }
        }
    };
    compile::Condition { argument: arg.index(), test }
}
