//! What a container uses, read from its cgroups, in the shape that runc's `events` prints.
//!
//! Both versions of cgroups say much the same in files of different names, so each figure is looked for in
//! all the container's directories: under cgroup2 there is one, under version 1 one for each hierarchy
//! that it was put into. What no file tells is left out, or 0 where the shape wants a number.

use super::Place;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Nanoseconds of the clock tick in which version 1 counts user and system time.
const TICK_NS: u64 = 10_000_000;

/// Reads all figures. Times are in nanoseconds, sizes in bytes; no limit is the largest number for memory
/// and 0 for processes.
pub fn read(place: &Place) -> Value {
    let files = Files { dirs: place.v2.iter().chain(&place.v1).map(PathBuf::as_path).collect() };
    json!({
        "cpu": cpu(&files),
        "cpuset": cpuset(&files),
        "memory": memory(&files),
        "pids": {
            "current": files.number("pids.current").unwrap_or(0),
            "limit": files.number("pids.max").filter(|&l| l != u64::MAX).unwrap_or(0),
        },
        "blkio": block_io(&files),
        "hugetlb": huge_pages(&files),
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

/// How many processes the kernel has killed for want of memory: `oom_kill` of `memory.events`.
pub fn oom_kills(dir: &Path) -> u64 {
    Files { dirs: vec![dir] }.table("memory.events").get("oom_kill").copied().unwrap_or(0)
}

/// The container's directories.
struct Files<'a> {
    dirs: Vec<&'a Path>,
}

impl Files<'_> {
    fn text(&self, name: &str) -> Option<String> {
        self.dirs.iter().find_map(|dir| fs::read_to_string(dir.join(name)).ok())
    }

    /// A file of one number, or `max`.
    fn number(&self, name: &str) -> Option<u64> {
        let text = self.text(name)?;
        match text.trim() {
            "max" => Some(u64::MAX),
            number => number.parse().ok(),
        }
    }

    /// The files of this name, with a key and a number in each line.
    fn table(&self, name: &str) -> BTreeMap<String, u64> {
        let texts = self.dirs.iter().filter_map(|dir| fs::read_to_string(dir.join(name)).ok());
        let mut table = BTreeMap::new();
        for text in texts {
            table.extend(text.lines().filter_map(|line| {
                let (key, value) = line.split_once(' ')?;
                Some((key.to_owned(), value.trim().parse().ok()?))
            }));
        }
        table
    }

    /// Adds `psi` where the kernel measures how long tasks waited.
    fn add_pressure(&self, name: &str, to: &mut Value) {
        let Some(text) = self.text(name) else { return };
        let mut both = Map::new();
        for line in text.lines() {
            let mut words = line.split(' ');
            let Some(kind @ ("some" | "full")) = words.next() else { continue };
            let pairs = words.filter_map(|word| {
                let (key, value) = word.split_once('=')?;
                let value = if key == "total" {
                    Value::from(value.parse::<u64>().ok()?)
                } else {
                    Value::from(value.parse::<f64>().ok()?)
                };
                Some((key.to_owned(), value))
            });
            both.insert(kind.to_owned(), pairs.collect());
        }
        to["psi"] = both.into();
    }
}

fn cpu(files: &Files<'_>) -> Value {
    let stat = files.table("cpu.stat");
    let ticks = files.table("cpuacct.stat");
    let of = |table: &BTreeMap<String, u64>, key: &str, unit: u64| table.get(key).map(|n| n * unit);
    let number = |name| of(&stat, name, 1).unwrap_or(0);
    let total = files.number("cpuacct.usage").or(of(&stat, "usage_usec", 1000));
    let user = of(&ticks, "user", TICK_NS).or(of(&stat, "user_usec", 1000));
    let kernel = of(&ticks, "system", TICK_NS).or(of(&stat, "system_usec", 1000));
    let mut usage = json!({
        "total": total.unwrap_or(0), "user": user.unwrap_or(0), "kernel": kernel.unwrap_or(0),
    });
    if let Some(text) = files.text("cpuacct.usage_percpu") {
        usage["percpu"] = text.split_ascii_whitespace().filter_map(|n| n.parse::<u64>().ok()).collect();
    }
    let mut cpu = json!({
        "usage": usage,
        "throttling": {
            "periods": number("nr_periods"),
            "throttledPeriods": number("nr_throttled"),
            "throttledTime":
                of(&stat, "throttled_time", 1).or(of(&stat, "throttled_usec", 1000)).unwrap_or(0),
        },
    });
    files.add_pressure("cpu.pressure", &mut cpu);
    cpu
}

fn cpuset(files: &Files<'_>) -> Value {
    let mut cpuset = Map::new();
    for (key, names) in [
        ("cpus", ["cpuset.cpus.effective", "cpuset.effective_cpus"]),
        ("mems", ["cpuset.mems.effective", "cpuset.effective_mems"]),
    ] {
        if let Some(text) = names.iter().find_map(|name| files.text(name)) {
            cpuset.insert(key.to_owned(), numbers(text.trim()).into());
        }
    }
    cpuset.into()
}

/// A list such as `0-2,7`, written out.
fn numbers(list: &str) -> Vec<u16> {
    list.split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse().ok()?..=last.parse().ok()?)
        })
        .flatten()
        .collect()
}

fn memory(files: &Files<'_>) -> Value {
    let raw = files.table("memory.stat");
    let entry = |prefix: &str| {
        let number = |name: &str| files.number(&format!("memory.{prefix}{name}")).unwrap_or(0);
        json!({
            "usage": number("usage_in_bytes"), "limit": number("limit_in_bytes"),
            "max": number("max_usage_in_bytes"), "failcnt": number("failcnt"),
        })
    };
    let mut memory = json!({});
    match files.number("memory.current") {
        Some(current) => {
            let number = |name| files.number(name).unwrap_or(0);
            let limit = files.number("memory.max").unwrap_or(u64::MAX);
            let refused = |name| files.table(name).get("max").copied().unwrap_or(0);
            memory["usage"] = json!({
                "usage": current, "limit": limit, "max": number("memory.peak"), "failcnt": refused("memory.events"),
            });
            // Memory and swap together, as version 1 counts and the specification limits.
            if let Some(swap) = files.number("memory.swap.current") {
                memory["swap"] = json!({
                    "usage": current.saturating_add(swap),
                    "limit": limit.saturating_add(number("memory.swap.max")),
                    "failcnt": refused("memory.swap.events"),
                });
            }
            memory["cache"] = raw.get("file").copied().unwrap_or(0).into();
        }
        None => {
            for (key, prefix) in
                [("usage", ""), ("swap", "memsw."), ("kernel", "kmem."), ("kernelTCP", "kmem.tcp.")]
            {
                memory[key] = entry(prefix);
            }
            memory["cache"] = raw.get("cache").copied().unwrap_or(0).into();
        }
    }
    memory["raw"] = json!(raw);
    files.add_pressure("memory.pressure", &mut memory);
    memory
}

fn block_io(files: &Files<'_>) -> Value {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    let split = |device: &str| {
        let (major, minor) = device.split_once(':')?;
        Some((major.parse::<u64>().ok()?, minor.parse::<u64>().ok()?))
    };
    // 8:0 rbytes=1 wbytes=2 rios=3 ..
    for line in files.text("io.stat").iter().flat_map(|text| text.lines()) {
        let mut words = line.split(' ');
        let Some((major, minor)) = words.next().and_then(split) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut bytes, "Read"),
                "wbytes" => (&mut bytes, "Write"),
                "dbytes" => (&mut bytes, "Discard"),
                "rios" => (&mut operations, "Read"),
                "wios" => (&mut operations, "Write"),
                "dios" => (&mut operations, "Discard"),
                _ => continue,
            };
            let value = value.parse::<u64>().unwrap_or(0);
            list.push(json!({"major": major, "minor": minor, "op": op, "value": value}));
        }
    }
    // 8:0 Read 1
    for (name, list) in [("io_service_bytes", &mut bytes), ("io_serviced", &mut operations)] {
        let text = files.text(&format!("blkio.throttle.{name}_recursive"));
        for line in text.iter().flat_map(|text| text.lines()) {
            let words: Vec<&str> = line.split(' ').collect();
            let [device, op, value] = words[..] else { continue };
            let (Some((major, minor)), Ok(value)) = (split(device), value.parse::<u64>()) else { continue };
            list.push(json!({"major": major, "minor": minor, "op": op, "value": value}));
        }
    }
    let mut block_io = json!({"ioServiceBytesRecursive": bytes, "ioServicedRecursive": operations});
    files.add_pressure("io.pressure", &mut block_io);
    block_io
}

fn huge_pages(files: &Files<'_>) -> Value {
    let mut sizes = Map::new();
    let names = files.dirs.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten();
    for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
        let Some((size, what)) = name.strip_prefix("hugetlb.").and_then(|rest| rest.split_once('.')) else {
            continue;
        };
        let number = |what: &str| files.number(&format!("hugetlb.{size}.{what}")).unwrap_or(0);
        match what {
            "current" => {
                let events = files.table(&format!("hugetlb.{size}.events"));
                let refused = events.get("max").copied().unwrap_or(0);
                sizes.insert(size.to_owned(), json!({"usage": number("current"), "failcnt": refused}));
            }
            "usage_in_bytes" => {
                let value = json!({
                    "usage": number("usage_in_bytes"), "max": number("max_usage_in_bytes"),
                    "failcnt": number("failcnt"),
                });
                sizes.insert(size.to_owned(), value);
            }
            _ => {}
        }
    }
    sizes.into()
}

#[cfg(test)]
mod tests;
