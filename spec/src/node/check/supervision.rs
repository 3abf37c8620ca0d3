//! `restart`, `after`, `ready`, `stop`, `timeout`: durations, names, and the order they come to.

use super::{Checker, NONE, each};
use crate::node::duration;
use crate::node::raw::{RawContainer, RawNode, RawRestart, TextOrNumber, WordOr};
use crate::node::read::{Field, Place};
use crate::node::suggest;
use crate::node::supervision::{Kill, Policy, Probe, Ready, Restart, Signal, Stop, TcpAddress};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

impl Checker<'_> {
    pub(super) fn duration(&self, field: &Field<String>, positive: bool) -> Option<Duration> {
        let (place, text) = field.given()?;
        match duration::parse(text) {
            Ok(duration) if positive && duration.is_zero() => {
                self.error(place, "the duration is zero, and must be longer", NONE);
                None
            }
            Ok(duration) => Some(duration),
            Err(error) => {
                let number = text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty();
                let hint = if number {
                    format!("write `{text}s` for seconds")
                } else {
                    "write such as `10s` or `1m30s`".into()
                };
                self.error(place, error.to_string(), hint);
                None
            }
        }
    }

    pub(super) fn restart(&self, raw: &RawContainer) -> Restart {
        match raw.restart.given() {
            None => Restart::default(),
            Some((place, WordOr::Text(word))) => Restart::new(self.policy(place, word).unwrap_or_default()),
            Some((place, WordOr::Map(map))) => self.restart_in_full(place, map),
        }
    }

    fn policy(&self, place: Place, word: &str) -> Option<Policy> {
        let meant = match word {
            "never" | "none" | "off" | "false" => Some("no"),
            "unless-stopped" | "yes" | "true" => Some("always"),
            _ => None,
        };
        if let Some(meant) = meant {
            self.error(place, format!("`{word}` is not a policy of restarts"), format!("write `{meant}`"));
            return None;
        }
        self.word(place, word, &Policy::ALL, "a policy of restarts")
    }

    fn restart_in_full(&self, at: Place, raw: &RawRestart) -> Restart {
        let policy =
            self.required(at, "policy", &raw.policy).and_then(|(place, word)| self.policy(place, word));
        let backoff = self.duration(&raw.backoff, true).unwrap_or(Restart::BACKOFF);
        let written = self.duration(&raw.max_backoff, true);
        let max_backoff = written.unwrap_or(Restart::MAX_BACKOFF.max(backoff));
        if let (true, Some(place)) = (max_backoff < backoff, raw.max_backoff.place()) {
            let (most, first) = (duration::format(max_backoff), duration::format(backoff));
            let message = format!("the longest wait ({most}) is below the first one ({first})");
            self.error(place, message, NONE);
        }
        if policy == Some(Policy::No) {
            for place in
                [raw.backoff.place(), raw.max_backoff.place(), raw.max_retries.place()].into_iter().flatten()
            {
                let message = format!("`{}` does not count with `policy: no`", self.key(place));
                self.warning_at_key(place, message, "remove it");
            }
        }
        let max_retries = self.number(&raw.max_retries, "`maxRetries`", 0, i64::from(u32::MAX));
        Restart { policy: policy.unwrap_or_default(), backoff, max_backoff, max_retries }
    }

    pub(super) fn ready(&self, raw: &RawContainer) -> Option<Ready> {
        let (at, raw) = raw.ready.given()?;
        let deadline = self.duration(&raw.deadline, true).unwrap_or(Ready::DEADLINE);
        let interval = self.duration(&raw.interval, true).unwrap_or(Ready::INTERVAL);
        let command = raw.command.given().and_then(|(place, words)| {
            if words.is_empty() {
                self.error(place, "the command is empty", "write the program's name and its arguments");
            }
            self.texts(&raw.command, |_, word| Some(word.to_owned())).map(Probe::Command)
        });
        let tcp = raw.tcp.given().and_then(|(place, address)| self.tcp(place, address)).map(Probe::Tcp);
        let file = raw.file.given().and_then(|(place, path)| self.absolute(place, path, "the file"));
        let given = [raw.command.place(), raw.tcp.place(), raw.file.place()];
        match given.into_iter().flatten().nth(1) {
            Some(second) => {
                let message = format!("`{}` is a second way to tell readiness", self.key(second));
                self.error_at_key(second, message, "keep one of `command`, `tcp` and `file`");
            }
            None if given.iter().all(Option::is_none) => {
                let hint = "add one of `command: [..]`, `tcp: PORT` and `file: /..`";
                self.error(at, "there is nothing that tells readiness", hint);
            }
            None => {}
        }
        let probe = command.or(tcp).or(file.map(Probe::File))?;
        Some(Ready { probe, deadline, interval })
    }

    fn tcp(&self, place: Place, address: &TextOrNumber) -> Option<TcpAddress> {
        let text = match address {
            TextOrNumber::Text(text) => text.clone(),
            TextOrNumber::Number(port) => port.to_string(),
        };
        let address = text.parse::<TcpAddress>();
        address.map_err(|error| self.error(place, error.to_string(), "write `PORT` or `HOST:PORT`")).ok()
    }

    pub(super) fn stop(&self, raw: &RawContainer) -> Stop {
        let default = Stop::default();
        let Some(raw) = raw.stop.get() else { return default };
        let kinds = [("process", Kill::Process), ("cgroup", Kill::Cgroup)];
        Stop {
            signal: raw
                .signal
                .given()
                .and_then(|(at, signal)| self.signal(at, signal))
                .unwrap_or(default.signal),
            grace: self.duration(&raw.grace, false).unwrap_or(default.grace),
            kill: self.one_of(&raw.kill, &kinds, "a kind of kill").unwrap_or(default.kill),
        }
    }

    fn signal(&self, place: Place, signal: &TextOrNumber) -> Option<Signal> {
        let text = match signal {
            TextOrNumber::Text(text) => text.clone(),
            TextOrNumber::Number(number) => number.to_string(),
        };
        let signal = text.parse::<Signal>();
        signal
            .map_err(|error| self.error(place, error.to_string(), suggest::word(&text, Signal::names())))
            .ok()
    }

    /// For each service the names of the services it waits for. An onboot container's name is dropped: it has ended
    /// before any service starts.
    pub(super) fn waits(&self, raws: &[RawNode], services: &[(Place, &RawContainer)]) -> Vec<Vec<String>> {
        let names = |list: &[(Place, &RawContainer)]| -> Vec<Option<String>> {
            list.iter().map(|(_, raw)| raw.name.get().cloned()).collect()
        };
        let service_names = names(services);
        let onboot: Vec<_> = raws.iter().flat_map(|raw| each(&raw.onboot)).collect();
        let onboot: BTreeSet<String> = names(&onboot).into_iter().flatten().collect();
        let index: BTreeMap<&str, usize> =
            service_names.iter().enumerate().filter_map(|(i, name)| Some((name.as_deref()?, i))).collect();
        let mut edges: Vec<Vec<(usize, Place)>> = Vec::new();
        for (i, (_, raw)) in services.iter().enumerate() {
            let mut waits: Vec<(usize, Place)> = Vec::new();
            for (place, name) in each(&raw.after) {
                match index.get(name.as_str()) {
                    Some(on) if *on == i && onboot.contains(name) => {}
                    Some(on) if waits.iter().any(|(other, _)| other == on) => {
                        self.warning(place, format!("`{name}` is named twice"), "remove one of the two");
                    }
                    Some(on) => waits.push((*on, place)),
                    None if onboot.contains(name) || !self.complete => {}
                    None => self.unknown_wait(place, name, index.keys().copied(), &onboot),
                }
            }
            edges.push(waits);
        }
        self.cycles(&edges, &service_names);
        let name = |(i, _): &(usize, Place)| service_names[*i].clone();
        edges.iter().map(|waits| waits.iter().filter_map(name).collect()).collect()
    }

    fn unknown_wait<'n>(
        &self,
        place: Place,
        name: &str,
        services: impl Iterator<Item = &'n str>,
        onboot: &'n BTreeSet<String>,
    ) {
        let known = services.chain(onboot.iter().map(String::as_str));
        let message = format!("`{name}` is neither a service nor an onboot container");
        self.error(place, message, suggest::word(name, known));
    }

    /// Records each cycle once, at the wait that closes it.
    fn cycles(&self, edges: &[Vec<(usize, Place)>], names: &[Option<String>]) {
        #[derive(Clone, Copy, PartialEq)]
        enum Seen {
            Not,
            OnPath,
            Done,
        }
        let mut seen = vec![Seen::Not; edges.len()];
        for start in 0..edges.len() {
            if seen[start] != Seen::Not {
                continue;
            }
            // The path from the start, each service with the number of its next wait to follow.
            let mut path = vec![(start, 0)];
            seen[start] = Seen::OnPath;
            while let Some((service, next)) = path.last_mut() {
                let service = *service;
                let Some((on, place)) = edges[service].get(*next).copied() else {
                    seen[service] = Seen::Done;
                    path.pop();
                    continue;
                };
                *next += 1;
                match seen[on] {
                    Seen::Done => {}
                    Seen::Not => {
                        seen[on] = Seen::OnPath;
                        path.push((on, 0));
                    }
                    Seen::OnPath => {
                        let first = path.iter().position(|(service, _)| *service == on).unwrap_or(0);
                        let around = path[first..].iter().map(|(service, _)| *service).chain([on]);
                        let around: Vec<&str> = around.filter_map(|i| names[i].as_deref()).collect();
                        let message = format!("services wait for each other: {}", around.join(" -> "));
                        self.error(place, message, "remove one of these from an `after`");
                    }
                }
            }
        }
    }
}
