//! From the command line to a monitor that serves, and the end.

use super::bury::{self, Processes, take_away};
use super::call::{JOBS, Program, RUNTIME};
use super::poller::{Poller, Source};
use super::protocol::PACKET_BYTES;
use super::sandbox::{self, Named, Sandbox};
use super::server::{Monitor, Stop};
use super::{CONTAINERS, LOG, PROCESSES, SOCKET, write_beside};
use crate::report;
use crate::sys;
use crate::sys::signal;
use rustix::event::epoll::EventFlags;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

const HELP: &str = "\
kit-monitor stays with a pod: it makes its namespaces and serves DIR/monitor.sock.

Usage: kit-monitor --pod DIR [--kitc PROGRAM] [--stall-ms N]

  --pod DIR        the pod's directory, with sandbox.json in it
  --kitc PROGRAM   the runtime, by default kitc beside this program
  --stall-ms N     how long an attached client may take nothing, by default 10000

It prints `ready` to its standard output, and then leaves its standard streams.
";

/// What the kernel is to think of killing the monitor, where it may be told so.
const OOM_SCORE_ADJ: &str = "-998";
/// As many connections may wait to be accepted.
const BACKLOG: i32 = 64;

#[derive(Debug, PartialEq, Eq)]
struct Options {
    pod: PathBuf,
    kitc: Option<PathBuf>,
    stall: Duration,
}

/// Why a monitor did not start.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// The command line.
    #[error("{0} (try kit-monitor --help)")]
    Usage(String),
    /// A call failed.
    #[error("{doing}")]
    Call { doing: &'static str, source: io::Error },
    /// A call on a file failed.
    #[error("{doing} {}", path.display())]
    File { doing: &'static str, path: PathBuf, source: io::Error },
    /// Not what this program reads.
    #[error("read {}", path.display())]
    Parse { path: PathBuf, source: serde_json::Error },
    /// The directory is that of another monitor.
    #[error("{} is there: the pod has a monitor, or what is left of one is to be buried", path.display())]
    Taken { path: PathBuf },
    /// The namespaces.
    #[error("make the pod's namespaces")]
    Sandbox { source: sandbox::Error },
}

fn call<E: Into<io::Error>>(doing: &'static str) -> impl Fn(E) -> Error {
    move |source| Error::Call { doing, source: source.into() }
}

fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::File { doing, path, source }
}

/// The program: starts, serves, ends.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let options = match parse(words.into_iter().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            let printed = io::stdout().write_all(HELP.as_bytes());
            return if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Err(error) => {
            report::print(&error, None);
            return ExitCode::from(2);
        }
    };
    let result = start(&options).map_err(Box::<dyn StdError>::from);
    match result.and_then(|mut monitor| monitor.serve().map_err(Into::into)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::print(&*error, None);
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Option<Options>, Error> {
    let (mut pod, mut kitc, mut stall) = (None, None, Duration::from_secs(10));
    while let Some(word) = words.next() {
        let name = word.to_string_lossy().into_owned();
        if matches!(name.as_str(), "--help" | "-h") {
            return Ok(None);
        }
        if !matches!(name.as_str(), "--pod" | "--kitc" | "--stall-ms") {
            return Err(Error::Usage(format!("there is no option {name}")));
        }
        let value = words.next().ok_or_else(|| Error::Usage(format!("{name} needs a value")))?;
        match name.as_str() {
            "--pod" => pod = Some(PathBuf::from(value)),
            "--kitc" => kitc = Some(PathBuf::from(value)),
            _ => {
                let number = value.to_str().and_then(|text| text.parse().ok());
                let bad = || Error::Usage(format!("--stall-ms cannot be {value:?}"));
                stall = Duration::from_millis(number.ok_or_else(bad)?);
            }
        }
    }
    let pod = pod.ok_or_else(|| Error::Usage("--pod is missing".to_owned()))?;
    Ok(Some(Options { pod, kitc, stall }))
}

/// Makes everything up to the point where clients are served.
fn start(options: &Options) -> Result<Monitor, Error> {
    let dir = options.pod.canonicalize().map_err(file("find", &options.pod))?;
    let kitc = match &options.kitc {
        Some(path) => path.canonicalize().map_err(file("find", path))?,
        None => std::env::current_exe().map_err(call("find this program"))?.with_file_name("kitc"),
    };
    rustix::process::chdir(&dir).map_err(|errno| file("enter", &dir)(errno.into()))?;
    let sandbox = read_sandbox()?;
    sandbox.check().map_err(|source| Error::Sandbox { source })?;
    // A leader of a group cannot make a session; then it is the caller's to be left alone.
    let _ = rustix::process::setsid();
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(call("take over orphans"))?;
    let score = fs::read_to_string("/proc/self/oom_score_adj").map_err(call("read the OOM score"))?;
    // Without rights the score stays as it is.
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ);
    let own = Named::of(rustix::process::getpid().as_raw_nonzero().get()).map_err(call("look at myself"))?;
    take_directory(own)?;
    let made = sandbox.make(&dir).map_err(|source| Error::Sandbox { source }).and_then(|pause| {
        write_beside(Path::new(PROCESSES), &Processes { monitor: own, pause })
            .map_err(file("write", PROCESSES))?;
        let program = Program::new(&kitc, &dir, score.trim().to_owned()).map_err(call("name kitc"))?;
        let monitor = build(options, dir.clone(), sandbox.clone(), pause, program)?;
        leave_streams()?;
        Ok(monitor)
    });
    made.inspect_err(|_| {
        // Nothing but namespaces can be there yet, and whoever hears the error can bury the rest.
        let _ = bury_own(&dir);
    })
}

/// Takes back what was made of a pod that does not come to be.
fn bury_own(dir: &Path) -> Result<(), bury::Error> {
    let processes = fs::read(dir.join(PROCESSES)).ok();
    let processes: Option<Processes> = processes.and_then(|text| serde_json::from_slice(&text).ok());
    take_away(dir, processes.and_then(|processes| processes.pause))
}

fn read_sandbox() -> Result<Sandbox, Error> {
    let path = Path::new("sandbox.json");
    let text = fs::read(path).map_err(file("read", path))?;
    serde_json::from_slice(&text).map_err(|source| Error::Parse { path: path.to_owned(), source })
}

/// Makes the directory that of this monitor.
fn take_directory(own: Named) -> Result<(), Error> {
    let path = Path::new(PROCESSES);
    let text = serde_json::to_vec(&Processes { monitor: own, pause: None })
        .map_err(|source| Error::Parse { path: path.to_owned(), source })?;
    match fs::File::create_new(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(Error::Taken { path: path.to_owned() }),
        result => result.and_then(|mut file| file.write_all(&text)).map_err(file("write", path)),
    }?;
    for dir in [CONTAINERS, RUNTIME, JOBS] {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(file("make directory", dir))?;
    }
    Ok(())
}

fn build(
    options: &Options,
    dir: PathBuf,
    sandbox: Sandbox,
    pause: Option<Named>,
    program: Program,
) -> Result<Monitor, Error> {
    let mut poller = Poller::new().map_err(call("make an epoll instance"))?;
    let signals = signal::block_all_into_descriptor().map_err(call("take signals as data"))?;
    let listener = listen().map_err(file("listen at", SOCKET))?;
    let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(call("open /dev/null"))?;
    let mut watch =
        |fd, source| poller.watch(fd, source, Some(EventFlags::IN)).map_err(call("watch a socket"));
    let (listener, signals) = (watch(listener, Source::Listener)?, watch(signals, Source::Signals)?);
    Ok(Monitor {
        dir,
        sandbox,
        pause,
        program,
        stall: options.stall,
        poller,
        listener,
        signals,
        null,
        clients: BTreeMap::new(),
        containers: BTreeMap::new(),
        jobs: BTreeMap::new(),
        stop: Stop::No,
        buffer: vec![0; PACKET_BYTES],
    })
}

/// Listens at the socket: for this user only, from its first moment on.
fn listen() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let mask = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = rustix::net::bind(&socket, &SocketAddrUnix::new(SOCKET)?);
    rustix::process::umask(mask);
    bound?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Says that it is ready, and lets go of the standard streams that it was started with.
fn leave_streams() -> Result<(), Error> {
    let log = fs::OpenOptions::new().append(true).create(true).open(LOG).map_err(file("open", LOG))?;
    let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(call("open /dev/null"))?;
    let mut out = io::stdout().lock();
    out.write_all(b"ready\n").and_then(|()| out.flush()).map_err(call("say that it is ready"))?;
    for (number, fd) in [null.as_fd(), null.as_fd(), log.as_fd()].into_iter().enumerate() {
        sys::exec::duplicate_onto(fd, number as i32).map_err(call("leave the standard streams"))?;
    }
    Ok(())
}

impl Monitor {
    /// The pod is over: gives up all that it has.
    pub(super) fn take_away(&self) -> Result<(), bury::Error> {
        take_away(&self.dir, self.pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Option<Options>, String> {
        parse(words.iter().map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_is_three_options() {
        let options = parsed(&["--stall-ms", "5", "--pod", "/p", "--kitc", "/k"]).unwrap();
        let (pod, kitc) = (PathBuf::from("/p"), Some(PathBuf::from("/k")));
        assert_eq!(options, Some(Options { pod, kitc, stall: Duration::from_millis(5) }));
        assert_eq!(parsed(&["--help"]), Ok(None));
        for (words, error) in [
            (&[][..], "--pod is missing (try kit-monitor --help)"),
            (&["--pod"], "--pod needs a value (try kit-monitor --help)"),
            (&["x"], "there is no option x (try kit-monitor --help)"),
            (&["--pod", "/p", "--stall-ms", "-1"], "--stall-ms cannot be \"-1\" (try kit-monitor --help)"),
        ] {
            assert_eq!(parsed(words), Err(error.to_owned()));
        }
    }
}
