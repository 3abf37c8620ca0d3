//! From a process inside the container to the program that the configuration names: limits, user,
//! capabilities, environment, exec. The same for the first process and for `exec`.

use crate::capability::{self, Sets};
use crate::seccomp::{self, Filter};
use crate::sys;
use oci_spec::runtime::{
    IOPriorityClass, Linux, LinuxMemoryPolicy, LinuxPersonalityDomain, LinuxSchedulerFlag,
    LinuxSchedulerPolicy, MemoryPolicyFlagType, MemoryPolicyModeType, PosixRlimitType, Process, Scheduler,
};
use rustix::fs::{Access, AtFlags, CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What can go wrong between the container and its program.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A limit was refused.
    #[error("process.rlimits: set {name} to {soft}, at most {hard}")]
    Rlimit {
        /// The limit.
        name: String,
        /// The soft limit.
        soft: u64,
        /// The hard limit.
        hard: u64,
        /// Why.
        source: io::Error,
    },
    /// A setting of the process was refused.
    #[error("{key}: set {value}")]
    Set {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// Why.
        source: io::Error,
    },
    /// A value is none that the key can have.
    #[error("{key}: {value:?} is not {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// As written.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// Capabilities.
    #[error(transparent)]
    Capability(#[from] capability::Error),
    /// Seccomp.
    #[error(transparent)]
    Seccomp(#[from] seccomp::Error),
    /// The working directory cannot be entered.
    #[error("process.cwd: change to {}", path.display())]
    Cwd {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The working directory is not inside the container.
    #[error("process.cwd: {} is outside of the container", path.display())]
    CwdOutside {
        /// The directory.
        path: PathBuf,
    },
    /// The program was not found. Programs that drive runtimes know this case by these words.
    #[error("process.args[0]: executable file not found in $PATH: {name:?} in {path}")]
    NotFound {
        /// The program.
        name: String,
        /// Where it was looked for.
        path: String,
    },
    /// The program cannot be run.
    #[error("process.args[0]: run {}", path.display())]
    Exec {
        /// The program.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A string of the configuration cannot be handed to the kernel.
    #[error("{key} has a string with a zero byte")]
    ZeroByte {
        /// The key.
        key: &'static str,
    },
}

/// A process to become: what can be computed before the container is entered.
#[derive(Debug)]
pub struct Prepared<'a> {
    process: &'a Process,
    args: Vec<CString>,
    env: Vec<CString>,
    capabilities: Sets,
    filter: Option<&'a Filter>,
    apparmor: Option<OwnedFd>,
    terminal_size: Option<(u16, u16)>,
}

impl<'a> Prepared<'a> {
    /// Checks and converts what does not depend on the container.
    pub fn new(process: &'a Process, filter: Option<&'a Filter>) -> Result<Prepared<'a>, Error> {
        let args = c_strings("process.args", process.args().iter().flatten())?;
        let env = c_strings("process.env", last_of_each(process.env().as_deref().unwrap_or_default()))?;
        let capabilities = process.capabilities().as_ref().map(Sets::of).unwrap_or_default();
        Ok(Prepared { process, args, env, capabilities, filter, apparmor: None, terminal_size: None })
    }

    /// Opens what needs the host's `/proc`, in the process itself, before the root is entered.
    pub fn open_early(&mut self) -> Result<(), Error> {
        if let Some(profile) = self.process.apparmor_profile().as_ref().filter(|p| !p.is_empty()) {
            let fail = |e: Errno| Error::Set {
                key: "process.apparmorProfile",
                value: profile.clone(),
                source: e.into(),
            };
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let file = rustix::fs::open(c"/proc/thread-self/attr/apparmor/exec", flags, Mode::empty())
                .or_else(|_| rustix::fs::open(c"/proc/thread-self/attr/exec", flags, Mode::empty()))
                .map_err(fail)?;
            self.apparmor = Some(file);
        }
        Ok(())
    }

    /// The process as it was configured.
    pub fn process(&self) -> &'a Process {
        self.process
    }

    /// Gives the terminal a size (rows, columns) where the configuration does not say one.
    pub fn with_terminal_size(mut self, size: Option<(u16, u16)>) -> Prepared<'a> {
        self.terminal_size = size;
        self
    }

    /// Whether the process has a terminal, and of which size (rows, columns).
    #[allow(clippy::option_option)] // A terminal without a size is not no terminal.
    pub fn terminal(&self) -> Option<Option<(u16, u16)>> {
        let size = self.process.console_size().map(|size| (size.height() as u16, size.width() as u16));
        (self.process.terminal() == Some(true)).then_some(size.or(self.terminal_size))
    }

    /// Writes `process.oomScoreAdj` of the calling process.
    pub fn set_oom_score(&self) -> Result<(), Error> {
        set_oom_score(self.process, "self")
    }

    /// Everything that needs privileges and does not yet give up any: scheduling, memory, limits, domain.
    pub fn limit(&self, rlimits_done: bool, linux: &Linux) -> Result<(), Error> {
        if let Some(scheduler) = self.process.scheduler() {
            set_scheduler(scheduler)?;
        }
        if let Some(priority) = self.process.io_priority() {
            let class = match priority.class() {
                IOPriorityClass::IoprioClassRt => 1,
                IOPriorityClass::IoprioClassBe => 2,
                IOPriorityClass::IoprioClassIdle => 3,
            };
            let level = u16::try_from(priority.priority()).ok().filter(|&l| l < 8);
            let value = || format!("{priority:?}");
            let level = level.ok_or_else(|| Error::Value {
                key: "process.ioPriority",
                value: value(),
                expected: "a priority of 0 to 7",
            })?;
            sys::schedule::ioprio_set(class, level).map_err(|source| Error::Set {
                key: "process.ioPriority",
                value: value(),
                source,
            })?;
        }
        if let Some(affinity) = self.process.exec_cpu_affinity() {
            let list = affinity.cpu_affinity_final().as_ref().or(affinity.initial().as_ref());
            list.map_or(Ok(()), |list| set_affinity(list))?;
        }
        if !rlimits_done {
            set_rlimits(self.process, None)?;
        }
        if let Some(policy) = linux.memory_policy() {
            set_memory_policy(policy)?;
        }
        if let Some(personality) = linux.personality() {
            let domain = match personality.domain() {
                LinuxPersonalityDomain::PerLinux => 0,
                LinuxPersonalityDomain::PerLinux32 => 8,
            };
            sys::schedule::set_personality(domain).map_err(|source| Error::Set {
                key: "linux.personality",
                value: domain.to_string(),
                source,
            })?;
        }
        Ok(())
    }

    /// Becomes the user, with its groups, and gives up all capabilities but the configured ones; enters
    /// the working directory. Returns what is left to do at the very end.
    pub fn become_user(&self) -> Result<Last<'_>, Error> {
        let user = self.process.user();
        // As root first: the user may be meant to start where it could not go by itself.
        let cwd = self.process.cwd();
        let entered = rustix::process::chdir(cwd);
        self.capabilities.limit_bounding()?;
        let groups: Vec<Gid> =
            user.additional_gids().iter().flatten().map(|&gid| Gid::from_raw(gid)).collect();
        match rustix::thread::set_thread_groups(&groups) {
            // A user namespace in which groups cannot be changed has none to give either.
            Err(Errno::PERM) if groups.is_empty() => {}
            result => result.map_err(|e| Error::Set {
                key: "process.user.additionalGids",
                value: format!("{:?}", user.additional_gids().as_deref().unwrap_or_default()),
                source: e.into(),
            })?,
        }
        let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(|e| Error::Set {
            key: "process.user.gid",
            value: user.gid().to_string(),
            source: e.into(),
        })?;
        capability::keep_over_user_change(|| Ok(rustix::thread::set_thread_res_uid(uid, uid, uid)?))?
            .map_err(|source| Error::Set {
                key: "process.user.uid",
                value: user.uid().to_string(),
                source,
            })?;
        if entered.is_err() {
            let fail = |e: Errno| Error::Cwd { path: cwd.clone(), source: e.into() };
            rustix::process::chdir(cwd).map_err(fail)?;
        }
        self.check_cwd()?;
        let umask = user.umask().unwrap_or(0o022);
        rustix::process::umask(Mode::from_raw_mode(umask));
        let program = self.find_program()?;
        let last = Last { prepared: self, program };
        if self.process.no_new_privileges() == Some(true) {
            rustix::thread::set_no_new_privs(true).map_err(|e| Error::Set {
                key: "process.noNewPrivileges",
                value: "true".to_owned(),
                source: e.into(),
            })?;
        }
        if !last.filter_needs_privilege() {
            last.drop_capabilities()?;
        }
        Ok(last)
    }

    /// The kernel marks a working directory that cannot be reached from the root.
    fn check_cwd(&self) -> Result<(), Error> {
        match rustix::process::getcwd(Vec::new()) {
            Ok(path) if path.to_bytes().first() == Some(&b'/') => Ok(()),
            Ok(_) | Err(Errno::NOENT) => Err(Error::CwdOutside { path: self.process.cwd().clone() }),
            Err(e) => Err(Error::Cwd { path: self.process.cwd().clone(), source: e.into() }),
        }
    }

    fn find_program(&self) -> Result<CString, Error> {
        let name = self.args.first().map(|a| OsStr::from_bytes(a.to_bytes())).unwrap_or_default();
        if name.as_bytes().contains(&b'/') {
            check_program(Path::new(name))?;
            return Ok(self.args[0].clone());
        }
        let path =
            self.variable("PATH").unwrap_or(b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let mut refused = None;
        for dir in path.split(|&b| b == b':') {
            let dir = if dir.is_empty() { Path::new(".") } else { Path::new(OsStr::from_bytes(dir)) };
            let candidate = dir.join(name);
            match check_program(&candidate) {
                Ok(()) => return c_string("process.args", candidate.into_os_string()),
                Err(Error::Exec { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or_else(|| Error::NotFound {
            name: name.to_string_lossy().into_owned(),
            path: String::from_utf8_lossy(path).into_owned(),
        }))
    }

    fn variable(&self, name: &str) -> Option<&[u8]> {
        self.env
            .iter()
            .rev()
            .find_map(|pair| pair.to_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    }

    /// The environment, with HOME of the container's user where the configuration has none.
    fn environment(&self) -> Vec<CString> {
        let mut env = self.env.clone();
        if self.variable("HOME").is_none() {
            let home = home_of(self.process.user().uid());
            env.extend(c_string("process.env", OsString::from(format!("HOME={home}"))));
        }
        env
    }
}

/// What is left to do after the container may start: nothing that a filter would mind, where possible.
#[derive(Debug)]
pub struct Last<'a> {
    prepared: &'a Prepared<'a>,
    program: CString,
}

impl Last<'_> {
    /// Without `no_new_privs` only CAP_SYS_ADMIN may install a filter: then capabilities go last.
    fn filter_needs_privilege(&self) -> bool {
        self.prepared.filter.is_some() && self.prepared.process.no_new_privileges() != Some(true)
    }

    fn drop_capabilities(&self) -> Result<(), Error> {
        Ok(self.prepared.capabilities.apply()?)
    }

    /// Becomes the program. `notify` is handed the seccomp listener where the filter has one.
    pub fn exec(&self, notify: impl FnOnce(OwnedFd) -> io::Result<()>) -> Error {
        match self.try_exec(notify) {
            Ok(error) | Err(error) => error,
        }
    }

    fn try_exec(&self, notify: impl FnOnce(OwnedFd) -> io::Result<()>) -> Result<Error, Error> {
        if let Some(file) = &self.prepared.apparmor {
            let profile = self.prepared.process.apparmor_profile().as_deref().unwrap_or_default();
            let written = file.try_clone().map(std::fs::File::from);
            written.and_then(|mut f| f.write_all(format!("exec {profile}").as_bytes())).map_err(
                |source| Error::Set { key: "process.apparmorProfile", value: profile.to_owned(), source },
            )?;
        }
        let env = self.prepared.environment();
        sys::signal::restore_defaults();
        if let Some(filter) = self.prepared.filter {
            if let Some(listener) = filter.install()? {
                notify(listener).map_err(|source| Error::Set {
                    key: "linux.seccomp.listenerPath",
                    value: "the listener".to_owned(),
                    source,
                })?;
            }
            if self.filter_needs_privilege() {
                self.drop_capabilities()?;
            }
        }
        let source = sys::exec::execve(&self.program, &self.prepared.args, &env);
        let path = PathBuf::from(OsStr::from_bytes(self.program.to_bytes()));
        Ok(Error::Exec { path, source })
    }
}

/// Sets the configured limits: of `pid`, or of the calling process.
pub fn set_rlimits(process: &Process, pid: Option<rustix::process::Pid>) -> Result<(), Error> {
    for limit in process.rlimits().iter().flatten() {
        let value = |v: u64| (v != u64::MAX).then_some(v);
        let new = Rlimit { current: value(limit.soft()), maximum: value(limit.hard()) };
        rustix::process::prlimit(pid, resource(limit.typ()), new).map_err(|e| Error::Rlimit {
            name: limit.typ().to_string(),
            soft: limit.soft(),
            hard: limit.hard(),
            source: e.into(),
        })?;
    }
    Ok(())
}

/// Writes `process.oomScoreAdj` for a process (`self`, or an id).
pub fn set_oom_score(process: &Process, of: &str) -> Result<(), Error> {
    let Some(score) = process.oom_score_adj() else { return Ok(()) };
    std::fs::write(format!("/proc/{of}/oom_score_adj"), score.to_string()).map_err(|source| Error::Set {
        key: "process.oomScoreAdj",
        value: score.to_string(),
        source,
    })
}

fn resource(name: PosixRlimitType) -> Resource {
    match name {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    }
}

fn set_scheduler(scheduler: &Scheduler) -> Result<(), Error> {
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let flags = scheduler.flags().iter().flatten().fold(0, |bits, flag| {
        bits | match flag {
            LinuxSchedulerFlag::SchedResetOnFork => 0x01,
            LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
            LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
            LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
            LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
            LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
            LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
        }
    });
    let attr = sys::schedule::SchedAttr {
        size: size_of::<sys::schedule::SchedAttr>() as u32,
        policy,
        flags,
        nice: scheduler.nice().unwrap_or(0),
        priority: scheduler.priority().unwrap_or(0) as u32,
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
        ..Default::default()
    };
    sys::schedule::sched_setattr(&attr).map_err(|source| Error::Set {
        key: "process.scheduler",
        value: scheduler.policy().to_string(),
        source,
    })
}

/// Lets the calling process run on the CPUs of a list such as `0-3,7` only.
fn set_affinity(list: &str) -> Result<(), Error> {
    let key = "process.execCPUAffinity";
    let bad = || Error::Value { key, value: list.to_owned(), expected: "a list of CPUs below 1024" };
    let mut set = rustix::thread::CpuSet::new();
    numbers(list).ok_or_else(bad)?.into_iter().for_each(|cpu| set.set(cpu));
    rustix::thread::sched_setaffinity(None, &set).map_err(|e| Error::Set {
        key,
        value: list.to_owned(),
        source: e.into(),
    })
}

/// The numbers of a list such as `0-3,7`, all below 1024.
fn numbers(list: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.parse::<usize>().ok().filter(|&n| n < 1024);
        all.extend(number(first)?..=number(last)?);
    }
    Some(all)
}

/// Lets the calling process have its memory from the nodes that a policy names.
fn set_memory_policy(policy: &LinuxMemoryPolicy) -> Result<(), Error> {
    let mode = match policy.mode() {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    };
    let flags = policy.flags().iter().flatten().fold(0, |bits, flag| {
        bits | match flag {
            MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
            MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
            MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
        }
    });
    let list = policy.nodes().as_deref().unwrap_or_default();
    let mut mask = Vec::new();
    if !list.is_empty() {
        let bad = || Error::Value {
            key: "linux.memoryPolicy.nodes",
            value: list.to_owned(),
            expected: "a list of nodes below 1024",
        };
        mask = vec![0; 1024 / 64];
        numbers(list).ok_or_else(bad)?.into_iter().for_each(|node| mask[node / 64] |= 1 << (node % 64));
    }
    sys::schedule::set_mempolicy(mode | flags, &mask).map_err(|source| Error::Set {
        key: "linux.memoryPolicy",
        value: format!("{} of nodes {list:?}", policy.mode()),
        source,
    })
}

/// The environment with the last value of each variable only: programs differ in which one they take.
fn last_of_each(env: &[String]) -> impl Iterator<Item = &String> {
    let name = |pair: &String| pair.split_once('=').map_or(pair.len(), |(name, _)| name.len());
    env.iter().enumerate().filter_map(move |(place, pair)| {
        let end = name(pair);
        let again = |later: &String| name(later) == end && later[..end] == pair[..end];
        (!env[place + 1..].iter().any(again)).then_some(pair)
    })
}

fn check_program(path: &Path) -> Result<(), Error> {
    let fail = |e: Errno| Error::Exec { path: path.to_owned(), source: e.into() };
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).map_err(fail)?;
    let stat = rustix::fs::stat(path).map_err(fail)?;
    match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
        rustix::fs::FileType::RegularFile => Ok(()),
        _ => Err(fail(Errno::ACCESS)),
    }
}

/// The home directory that the container's own user database has for `uid`.
fn home_of(uid: u32) -> String {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let uid = uid.to_string();
    text.lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() >= 6 && fields[2] == uid && !fields[5].contains('\0'))
        .map_or_else(|| "/".to_owned(), |fields| fields[5].to_owned())
}

fn c_string(key: &'static str, text: OsString) -> Result<CString, Error> {
    CString::new(text.into_vec()).map_err(|_| Error::ZeroByte { key })
}

fn c_strings<'a>(
    key: &'static str,
    strings: impl Iterator<Item = &'a String>,
) -> Result<Vec<CString>, Error> {
    strings.map(|s| CString::new(s.as_str()).map_err(|_| Error::ZeroByte { key })).collect()
}
