//! Children that end: calls of `kitc`, containers, processes in them.

use super::call::{Files, RUNTIME};
use super::protocol::{Event, Exit, Outcome, Reason};
use super::server::{Asked, Monitor, Stop};
use super::{CONTAINERS, exit_file, note, remove_if_there, write_beside};
use crate::cgroup::Place;
use crate::state::StateDir;
use rustix::process::WaitOptions;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::SystemTime;

use super::container::Wish;

/// How many processes that ended are remembered for a container.
const ENDED_EXECS: usize = 16;

/// A call of `kitc` that runs.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) doing: Doing,
    pub(super) container: String,
    /// Who wants to know; nobody when the pod is being stopped.
    pub(super) asked: Option<Asked>,
    pub(super) files: Files,
}

/// What a call is for.
#[derive(Debug)]
pub(super) enum Doing {
    /// `create`, with the monitor's ends of the pipes.
    Create {
        /// For the standard streams.
        ours: [Option<OwnedFd>; 3],
    },
    /// `start` or `delete`.
    Work,
    /// `exec`.
    Exec {
        /// The process.
        exec: String,
    },
    /// `kill`, or `delete` of what a `create` that was cut off has left.
    Aside,
}

impl Monitor {
    /// Takes all children that have ended. Calls that make processes come first: what they made may
    /// have ended too. Calls that wait for a process to end come after it.
    pub(super) fn reap(&mut self) {
        let mut ended = Vec::new();
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let exit = match status.terminating_signal() {
                Some(number) => Exit::Signal(number),
                None => Exit::Code(status.exit_status().unwrap_or(255)),
            };
            ended.push((pid.as_raw_nonzero().get(), exit));
        }
        ended.sort_by_key(|(pid, _)| match self.jobs.get(pid).map(|job| &job.doing) {
            Some(Doing::Create { .. } | Doing::Exec { .. }) => 0,
            None => 1,
            Some(Doing::Work | Doing::Aside) => 2,
        });
        for (pid, exit) in ended {
            match self.jobs.remove(&pid) {
                Some(job) => self.on_job(job, exit),
                None => self.on_process(pid, exit),
            }
        }
    }

    fn on_job(&mut self, mut job: Job, exit: Exit) {
        let fine = exit == Exit::Code(0);
        let failed = || {
            let error = job.files.read_error().unwrap_or_else(|| format!("kitc ended with {exit:?}"));
            Outcome::refused(Reason::Runtime, error)
        };
        let failure = (!fine).then(failed);
        let mut console = None;
        let id = &job.container;
        let outcome = match job.doing {
            Doing::Create { ours } => {
                self.on_create(id, failure, ours, &mut job.files).unwrap_or_else(|outcome| outcome)
            }
            Doing::Exec { exec } => match self.on_exec(id, &exec, failure, &mut job.files) {
                Ok((pid, terminal)) => {
                    console = terminal;
                    Outcome::Made { pid }
                }
                Err(outcome) => {
                    if let Some(container) = self.containers.get_mut(id) {
                        container.execs.remove(&exec);
                    }
                    outcome
                }
            },
            Doing::Work => self.on_work(id, failure),
            Doing::Aside => failure.unwrap_or(Outcome::Done),
        };
        job.files.remove();
        if let Some(asked) = job.asked {
            let fds: Vec<BorrowedFd<'_>> = console.iter().map(|fd| fd.as_fd()).collect();
            self.answer_with(asked, outcome, &fds);
        } else if matches!(outcome, Outcome::Refused { .. }) {
            self.give_up_stop(outcome);
        }
    }

    fn on_create(
        &mut self,
        id: &str,
        failure: Option<Outcome>,
        ours: [Option<OwnedFd>; 3],
        files: &mut Files,
    ) -> Result<Outcome, Outcome> {
        let Some(container) = self.containers.get_mut(id) else { return Ok(Outcome::Done) };
        let result = match failure {
            Some(failure) => Err(failure),
            None => files
                .read_pid()
                .and_then(|pid| {
                    match files.take_console()? {
                        Some(master) => {
                            container.stdio.connect_terminal(&mut self.poller, master, container.stdin)?;
                        }
                        None => container.stdio.connect_pipes(&mut self.poller, ours)?,
                    }
                    container.life.made(pid);
                    Ok(Outcome::Made { pid })
                })
                .map_err(|e| Outcome::refused(Reason::Monitor, format!("take over container {id}: {e}"))),
        };
        if result.is_err() {
            container.stdio.close(&mut self.poller);
            self.containers.remove(id);
            remove_if_there(&Path::new(CONTAINERS).join(id));
            // A kitc that fails leaves nothing; one that was killed does.
            if Path::new(RUNTIME).join(id).exists() {
                self.call_aside(None, id, &["delete", "--force", id]).unwrap_or_else(|outcome| {
                    note(format_args!("delete what is left of container {id}: {outcome:?}"));
                });
            }
        }
        result
    }

    fn on_exec(
        &mut self,
        id: &str,
        exec: &str,
        failure: Option<Outcome>,
        files: &mut Files,
    ) -> Result<(i32, Option<OwnedFd>), Outcome> {
        if let Some(failure) = failure {
            return Err(failure);
        }
        let own = |e: io::Error| Outcome::refused(Reason::Monitor, format!("take over process {exec}: {e}"));
        let pid = files.read_pid().map_err(own)?;
        if let Some(container) = self.containers.get_mut(id) {
            container.execs.insert(exec.to_owned(), pid);
        }
        let console = files.take_console().map_err(own)?;
        Ok((pid, console))
    }

    fn on_work(&mut self, id: &str, failure: Option<Outcome>) -> Outcome {
        let Some(container) = self.containers.get_mut(id) else { return Outcome::Done };
        let deleted = container.life.finish(failure.is_none());
        if deleted && let Some(mut container) = self.containers.remove(id) {
            container.stdio.close(&mut self.poller);
            remove_if_there(&Path::new(CONTAINERS).join(id));
        }
        failure.unwrap_or(Outcome::Done)
    }

    fn on_process(&mut self, pid: i32, exit: Exit) {
        if self.pause.is_some_and(|pause| pause.pid == pid) {
            note(format_args!("the first process of the pod's pid namespace has ended: {exit:?}"));
            self.pause = None;
            return;
        }
        let first = self.containers.iter().find(|(_, c)| c.life.lives() && c.life.pid() == Some(pid));
        if let Some((id, _)) = first {
            let id = id.clone();
            return self.on_exit(&id, exit);
        }
        for (id, container) in &mut self.containers {
            let exec =
                container.execs.iter().find(|(_, living)| **living == pid).map(|(exec, _)| exec.clone());
            let Some(exec) = exec else { continue };
            container.execs.remove(&exec);
            if container.ended_execs.len() == ENDED_EXECS {
                container.ended_execs.pop_front();
            }
            container.ended_execs.push_back((exec.clone(), exit));
            let event = Event::ExecExited { id: id.clone(), exec, exit };
            return self.tell(event);
        }
    }

    fn on_exit(&mut self, id: &str, exit: Exit) {
        let record = StateDir::open(Path::new(RUNTIME), id).and_then(|dir| dir.read());
        let place = record.ok().flatten().map(|record| record.cgroup).unwrap_or_default();
        let oom = killed_for_memory(&place);
        // In a pid namespace that others share, the first process leaves its children behind.
        if let Err(error) = place.kill() {
            note(format_args!("kill what is left of container {id}: {error}"));
        }
        let Some(container) = self.containers.get_mut(id) else { return };
        let buffer = &mut self.buffer[..super::stdio::READ_BYTES];
        container.stdio.copy_rest(&mut self.poller, buffer);
        let Some(ended) = container.life.ended(exit, oom, SystemTime::now()).cloned() else { return };
        if let Err(error) = write_beside(&exit_file(Path::new(""), id), &ended) {
            note(format_args!("write how container {id} ended: {error}"));
        }
        if oom {
            self.tell(Event::Oom { id: id.to_owned() });
        }
        self.tell(Event::Exited { id: id.to_owned(), ended });
    }

    /// When the pod is to end: deletes the next containers, and ends when there are none.
    pub(super) fn advance_stop(&mut self) {
        if !matches!(self.stop, Stop::Asked(_) | Stop::Signalled) {
            return;
        }
        let ready = self.containers.iter().filter(|(_, c)| c.life.check(Wish::ForceDelete).is_ok());
        let ready: Vec<String> = ready.map(|(id, _)| id.clone()).collect();
        for id in ready {
            if let Err(outcome) = self.delete(None, &id, true) {
                return self.give_up_stop(outcome);
            }
        }
        if self.containers.is_empty() && self.jobs.is_empty() {
            self.stop_now();
        }
    }

    /// What cannot be deleted now is not tried again and again.
    fn give_up_stop(&mut self, outcome: Outcome) {
        note(format_args!("stop the pod: {outcome:?}"));
        if let Stop::Asked(asked) = std::mem::replace(&mut self.stop, Stop::No) {
            self.answer(asked, outcome);
        }
    }

    fn stop_now(&mut self) {
        let stop = std::mem::replace(&mut self.stop, Stop::Over);
        let outcome = match self.take_away() {
            Ok(()) => Outcome::Done,
            Err(error) => {
                let messages = crate::report::chain(&error).join(": ");
                note(format_args!("{messages}"));
                Outcome::refused(Reason::Monitor, messages)
            }
        };
        if let Stop::Asked(asked) = stop {
            self.answer(asked, outcome);
        }
    }
}

/// Whether the kernel has killed a process of these cgroups for want of memory.
fn killed_for_memory(place: &Place) -> bool {
    let v2 = place.v2.iter().map(|dir| dir.join("memory.events"));
    let v1 = place.v1.iter().map(|dir| dir.join("memory.oom_control"));
    v2.chain(v1).any(|path| fs::read_to_string(path).is_ok_and(|text| counts_kill(&text)))
}

fn counts_kill(text: &str) -> bool {
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.is_some_and(|count| count.trim().parse::<u64>().is_ok_and(|count| count > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_for_memory_is_found_in_both_versions_files() {
        assert!(counts_kill("low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\noom_group_kill 0\n"));
        assert!(counts_kill("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"));
        assert!(!counts_kill("oom 1\noom_kill 0\noom_group_kill 7\n"));
        assert!(!counts_kill(""));
    }
}
