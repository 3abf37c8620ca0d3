//! What each request does: checks, then either the answer or a call of `kitc` whose end answers it.

use super::call::Files;
use super::children::{Doing, Job};
use super::container::{Life, Refusal, Wish, Work};
use super::log::Log;
use super::protocol::{self, Create, Outcome, Reason, Request};
use super::server::{Asked, Container, Monitor, Stop};
use super::stdio::{Limits, Pipes, Stdio, is_stream};
use super::{CONTAINERS, remove_if_there};
use crate::state::check_id;
use crate::sys::signal;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::SystemTime;

/// The most containers of a pod.
const MOST_CONTAINERS: usize = 256;
/// The most processes that are made in a container and live at a time.
const MOST_EXECS: usize = 256;

type Result<T> = std::result::Result<T, Outcome>;

fn refused(reason: Reason) -> impl Fn(String) -> Outcome {
    move |message| Outcome::refused(reason, message)
}

fn own(doing: impl std::fmt::Display) -> impl FnOnce(io::Error) -> Outcome {
    move |error| Outcome::refused(Reason::Monitor, format!("{doing}: {error}"))
}

impl Monitor {
    /// Does what a client asks. `None` when the answer comes later.
    pub(super) fn on_request(
        &mut self,
        asked: Asked,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> Option<Outcome> {
        let wanted = match &request {
            Request::Exec { process, .. } if is_terminal(process) => 0,
            Request::Exec { .. } => 3,
            Request::Attach { .. } => 1,
            _ => 0,
        };
        if fds.len() != wanted {
            let text = format!("the request has {} descriptors, not {wanted}", fds.len());
            return Some(Outcome::refused(Reason::BadRequest, text));
        }
        let changes = !matches!(request, Request::State | Request::Subscribe | Request::Stop { .. });
        if changes && !matches!(self.stop, Stop::No) {
            return Some(Outcome::refused(Reason::State, "the pod is being stopped"));
        }
        match self.decide(asked, request, fds) {
            Ok(outcome) => outcome,
            Err(outcome) => Some(outcome),
        }
    }

    fn decide(&mut self, asked: Asked, request: Request, mut fds: Vec<OwnedFd>) -> Result<Option<Outcome>> {
        match request {
            Request::State => return Ok(Some(Outcome::State(self.state()))),
            Request::Create(create) => return self.create(asked, create),
            Request::Start { id } => {
                self.allow(&id, Wish::Start)?;
                self.work(Some(asked), &id, Work::Start, &["start", &id])?;
                return Ok(None);
            }
            Request::Delete { id, force } => {
                self.allow(&id, if force { Wish::ForceDelete } else { Wish::Delete })?;
                self.delete(Some(asked), &id, force)?;
                return Ok(None);
            }
            Request::Exec { id, exec, process } => return self.exec(asked, (id, exec), &process, &fds),
            Request::Signal { id, exec: None, number, all } => {
                self.signal(asked, &id, number, all)?;
                return Ok(None);
            }
            Request::Signal { id, exec: Some(exec), number, all: false } => {
                self.signal_exec(&id, &exec, number)?;
            }
            Request::Signal { exec: Some(_), all: true, .. } => {
                return Err(Outcome::refused(Reason::BadRequest, "exec and all exclude each other"));
            }
            Request::Resize { id, rows, columns } => {
                self.allow(&id, Wish::Streams)?;
                if !self.container(&id)?.stdio.resize(rows, columns).map_err(own("set the size"))? {
                    return Err(refused(Reason::State)(format!("container {id} has no terminal")));
                }
            }
            Request::Attach { id } => {
                self.allow(&id, Wish::Streams)?;
                let socket = fds.pop().filter(|fd| is_stream(fd.as_fd()));
                let not = || Outcome::refused(Reason::BadRequest, "the descriptor is no unix stream socket");
                self.attach(&id, socket.ok_or_else(not)?)?;
            }
            Request::ReopenLog { id } => {
                let log = self.container(&id)?.stdio.reopen_log().map_err(own("open the log"))?;
                if !log {
                    return Err(refused(Reason::State)(format!("container {id} has no log")));
                }
            }
            Request::Stop { force } => {
                if !force && let Some(id) = self.containers.keys().next() {
                    return Err(refused(Reason::State)(format!("container {id} is there")));
                }
                if !matches!(self.stop, Stop::No) {
                    return Err(Outcome::refused(Reason::State, "the pod is being stopped"));
                }
                self.stop = Stop::Asked(asked);
                return Ok(None);
            }
            Request::Subscribe => {
                self.clients.get_mut(&asked.client).into_iter().for_each(|client| client.subscribed = true);
            }
        }
        Ok(Some(Outcome::Done))
    }

    fn container(&mut self, id: &str) -> Result<&mut Container> {
        let missing = || refused(Reason::NotFound)(format!("there is no container {id}"));
        self.containers.get_mut(id).ok_or_else(missing)
    }

    fn allow(&mut self, id: &str, wish: Wish) -> Result<()> {
        let refusal = |refusal: Refusal| refused(Reason::State)(format!("container {id}: {refusal}"));
        self.container(id)?.life.check(wish).map_err(refusal)
    }

    fn state(&self) -> protocol::State {
        let container = |container: &Container| {
            let (created, started) = container.life.times();
            protocol::Container {
                status: container.life.status(),
                pid: container.life.pid(),
                created,
                started,
                ended: container.life.how().cloned(),
                execs: container.execs.clone(),
                ended_execs: container.ended_execs.iter().cloned().collect(),
            }
        };
        protocol::State {
            monitor: rustix::process::getpid().as_raw_nonzero().get(),
            pause: self.pause.map(|pause| pause.pid),
            namespaces: self.sandbox.paths(&self.dir),
            containers: self.containers.iter().map(|(id, c)| (id.clone(), container(c))).collect(),
        }
    }

    fn create(&mut self, asked: Asked, create: Create) -> Result<Option<Outcome>> {
        let id = create.id.clone();
        check_id(&id).map_err(|error| refused(Reason::BadRequest)(error.to_string()))?;
        if !create.bundle.is_absolute() || create.log.as_ref().is_some_and(|log| !log.is_absolute()) {
            return Err(Outcome::refused(Reason::BadRequest, "bundle and log are absolute paths"));
        }
        if self.containers.contains_key(&id) {
            return Err(refused(Reason::Exists)(format!("container {id} is there already")));
        }
        if self.containers.len() >= MOST_CONTAINERS {
            return Err(refused(Reason::State)(format!("a pod has at most {MOST_CONTAINERS} containers")));
        }
        let log = create
            .log
            .as_ref()
            .map(|path| Log::open(path).map_err(own(format_args!("open the log {}", path.display()))));
        let log = log.transpose()?;
        let mut files = self.program.files();
        let mut pipes = Pipes { theirs: [None, None, None], ours: [None, None, None] };
        let mut args: Vec<&OsStr> = vec!["create".as_ref(), "--bundle".as_ref(), create.bundle.as_os_str()];
        let (pid_file, mut console) = (files.path("pid"), None);
        if create.tty {
            console = Some(files.listen_for_console().map_err(own("listen for a terminal"))?);
        } else {
            pipes = Pipes::new(create.stdin).map_err(own("make pipes"))?;
        }
        args.extend(["--pid-file".as_ref(), pid_file.as_os_str()]);
        args.extend(console.iter().flat_map(|path| ["--console-socket".as_ref(), path.as_os_str()]));
        args.push(id.as_ref());
        let dir = Path::new(CONTAINERS).join(&id);
        fs::create_dir_all(&dir).map_err(own("make the container's directory"))?;
        let pid = match self.spawn(&files, &args, &pipes.theirs) {
            Ok(pid) => pid,
            Err(outcome) => {
                files.remove();
                remove_if_there(&dir);
                return Err(outcome);
            }
        };
        let limits = Limits { stall: self.stall, stdin_once: create.stdin_once };
        let container = Container {
            life: Life::new(SystemTime::now()),
            stdio: Stdio::new(&id, limits, log),
            stdin: create.stdin,
            execs: BTreeMap::new(),
            ended_execs: VecDeque::new(),
        };
        self.containers.insert(id.clone(), container);
        let doing = Doing::Create { ours: pipes.ours };
        self.jobs.insert(pid, Job { doing, container: id, asked: Some(asked), files });
        Ok(None)
    }

    /// Starts a call of `kitc`; streams that are not given are `/dev/null`.
    fn spawn(&self, files: &Files, args: &[&OsStr], stdio: &[Option<OwnedFd>; 3]) -> Result<i32> {
        let null = self.null.as_fd();
        let stdio: [BorrowedFd<'_>; 3] =
            std::array::from_fn(|number| stdio[number].as_ref().map_or(null, |fd| fd.as_fd()));
        self.program.call(files, args, stdio).map_err(own("run kitc"))
    }

    /// Lets `kitc` work on a container.
    fn work(&mut self, asked: Option<Asked>, id: &str, work: Work, args: &[&str]) -> Result<()> {
        let files = self.program.files();
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        let pid = self.spawn(&files, &args, &[None, None, None])?;
        self.container(id)?.life.begin(work, SystemTime::now());
        self.jobs.insert(pid, Job { doing: Doing::Work, container: id.to_owned(), asked, files });
        Ok(())
    }

    pub(super) fn delete(&mut self, asked: Option<Asked>, id: &str, force: bool) -> Result<()> {
        let args: &[&str] = if force { &["delete", "--force", id] } else { &["delete", id] };
        self.work(asked, id, Work::Delete, args)
    }

    fn signal(&mut self, asked: Asked, id: &str, number: i32, all: bool) -> Result<()> {
        self.allow(id, Wish::Enter)?;
        let number = number.to_string();
        let all: &[&str] = if all { &["--all"] } else { &[] };
        self.call_aside(Some(asked), id, &[&["kill"], all, &[id, &number]].concat())
    }

    /// Lets `kitc` do something that needs nothing of the container's life.
    pub(super) fn call_aside(&mut self, asked: Option<Asked>, id: &str, args: &[&str]) -> Result<()> {
        let files = self.program.files();
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        let pid = self.spawn(&files, &args, &[None, None, None])?;
        self.jobs.insert(pid, Job { doing: Doing::Aside, container: id.to_owned(), asked, files });
        Ok(())
    }

    /// Sends a signal to a process in a container: a child that is not waited for yet has its number to
    /// itself.
    fn signal_exec(&mut self, id: &str, exec: &str, number: i32) -> Result<()> {
        let pid = self.container(id)?.execs.get(exec).copied().filter(|&pid| pid != 0);
        let missing = || refused(Reason::NotFound)(format!("no process {exec} lives in {id}"));
        signal::kill(pid.ok_or_else(missing)?, number).map_err(own(format_args!("send signal {number}")))
    }

    fn exec(
        &mut self,
        asked: Asked,
        (id, exec): (String, String),
        process: &Value,
        fds: &[OwnedFd],
    ) -> Result<Option<Outcome>> {
        self.allow(&id, Wish::Enter)?;
        let container = self.container(&id)?;
        let known =
            container.execs.contains_key(&exec) || container.ended_execs.iter().any(|(e, _)| *e == exec);
        if known || exec.is_empty() || exec.len() > 255 {
            return Err(refused(Reason::Exists)(format!("the name {exec:?} is taken in {id}, or is none")));
        }
        if container.execs.len() >= MOST_EXECS {
            return Err(refused(Reason::State)(format!("{MOST_EXECS} processes run in {id}")));
        }
        let mut files = self.program.files();
        let (spec, pid_file) = (files.path("json"), files.path("pid"));
        fs::write(&spec, process.to_string()).map_err(own("write the process"))?;
        let words = ["exec", "--detach", "--process"].map(OsStr::new);
        let mut args: Vec<&OsStr> = words.to_vec();
        args.extend([spec.as_os_str(), "--pid-file".as_ref(), pid_file.as_os_str()]);
        let console = is_terminal(process)
            .then(|| files.listen_for_console().map_err(own("listen for a terminal")))
            .transpose()?;
        args.extend(console.iter().flat_map(|path| ["--console-socket".as_ref(), path.as_os_str()]));
        args.push(id.as_ref());
        let null = self.null.as_fd();
        let stdio = std::array::from_fn(|number| fds.get(number).map_or(null, |fd| fd.as_fd()));
        let called = self.program.call(&files, &args, stdio).map_err(own("run kitc"));
        let pid = called.inspect_err(|_| files.remove())?;
        self.container(&id)?.execs.insert(exec.clone(), 0);
        self.jobs.insert(pid, Job { doing: Doing::Exec { exec }, container: id, asked: Some(asked), files });
        Ok(None)
    }

    fn attach(&mut self, id: &str, socket: OwnedFd) -> Result<()> {
        let container = self.containers.get_mut(id);
        let container = container.ok_or_else(|| Outcome::refused(Reason::NotFound, id))?;
        let attached = container.stdio.attach(&mut self.poller, socket).map_err(own("attach"))?;
        attached.ok_or_else(|| refused(Reason::State)(format!("too many clients are attached to {id}")))
    }
}

fn is_terminal(process: &Value) -> bool {
    process.get("terminal").and_then(Value::as_bool) == Some(true)
}
