//! Limits under cgroup2: from the specification's resources, which are in the terms of version 1, to
//! files and values.

use super::{Error, write_existing, write_setting};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};
use std::fs;
use std::io;
use std::path::Path;

/// A value for a file of a cgroup directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The key of the configuration that asks for it.
    pub key: String,
    /// The file.
    pub file: String,
    /// The value.
    pub value: String,
    /// Another file and value that mean the same, where the file does not exist.
    pub otherwise: Option<(String, String)>,
}

impl Setting {
    fn new(key: &str, file: &str, value: impl ToString) -> Setting {
        Setting {
            key: format!("linux.resources.{key}"),
            file: file.to_owned(),
            value: value.to_string(),
            otherwise: None,
        }
    }

    /// The controller that has to be enabled for the file to be there.
    fn controller(&self) -> Option<&str> {
        self.file.split_once('.').map(|(controller, _)| controller).filter(|&c| c != "cgroup")
    }
}

/// Enabled on the way down where the machine has them, so that a container's use can be read even
/// where it has no limit.
const ACCOUNTED: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// `resources` for a cgroup that has limits already, completed where one value depends on another that is
/// not mentioned: a period keeps the quota, memory and swap together keep the limit on memory.
pub fn completed(dir: &Path, resources: &LinuxResources) -> Result<LinuxResources, Error> {
    let read = |file: &str| {
        let path = dir.join(file);
        fs::read_to_string(&path).map_err(|source| Error::Io { doing: "read", path, source })
    };
    let number = |text: &str| text.split_ascii_whitespace().next().and_then(|word| word.parse::<i64>().ok());
    let mut resources = resources.clone();
    let is_set = |value: Option<i64>| value.is_some_and(|v| v != 0);
    if let Some(cpu) = resources.cpu_mut()
        && cpu.period().is_some_and(|p| p != 0)
        && !is_set(cpu.quota())
    {
        cpu.set_quota(number(&read("cpu.max")?).or(Some(-1)));
    }
    if let Some(memory) = resources.memory_mut() {
        if memory.swap().is_some_and(|s| s > 0) && !is_set(memory.limit()) {
            memory.set_limit(number(&read("memory.max")?));
        }
        if memory.check_before_update() == Some(true)
            && let Some(limit) = memory.limit().filter(|&l| l > 0)
            && let Some(used) = number(&read("memory.current")?).filter(|&used| used > limit)
        {
            return Err(Error::BelowUse { limit, used });
        }
    }
    Ok(resources)
}

/// The files and values for `resources`, in the order to be written.
pub fn settings(resources: &LinuxResources) -> Result<Vec<Setting>, Error> {
    let mut list = Vec::new();
    if let Some(memory) = resources.memory() {
        memory_settings(memory, &mut list)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu_settings(cpu, &mut list)?;
    }
    // Zero is what a configuration without a limit says in some callers' JSON.
    if let Some(limit) = resources.pids().map(|p| if p.limit() == 0 { -1 } else { p.limit() }) {
        list.push(Setting::new("pids.limit", "pids.max", or_max(limit)));
    }
    if let Some(io) = resources.block_io() {
        io_settings(io, &mut list);
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let file = format!("hugetlb.{}.max", limit.page_size());
        list.push(Setting::new("hugepageLimits", &file, or_max(limit.limit())));
    }
    let network = resources.network().as_ref();
    if network.is_some_and(|n| {
        n.class_id().unwrap_or(0) != 0 || n.priorities().as_ref().is_some_and(|p| !p.is_empty())
    }) {
        return Err(Error::Unsupported {
            key: "linux.resources.network",
            why: "cgroup version 2 has no network classes",
        });
    }
    let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
    devices.sort_by_key(|(name, _)| name.as_str());
    for (name, limit) in devices {
        let part = |word: &str, value: Option<u32>| value.map(|v| format!(" {word}={v}")).unwrap_or_default();
        let value = format!(
            "{name}{}{}",
            part("hca_handle", limit.hca_handles()),
            part("hca_object", limit.hca_objects())
        );
        list.push(Setting::new("rdma", "rdma.max", value));
    }
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (file, value) in unified {
        if file.contains('/') || !file.contains('.') {
            return Err(Error::Unsupported {
                key: "linux.resources.unified",
                why: "a key is a file name of a cgroup directory",
            });
        }
        list.push(Setting::new(&format!("unified[{file:?}]"), file, value));
    }
    Ok(list)
}

/// A limit, where any negative number means that there is none.
fn or_max(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

fn memory_settings(memory: &LinuxMemory, list: &mut Vec<Setting>) -> Result<(), Error> {
    if let Some(limit) = memory.limit().filter(|&l| l != 0) {
        list.push(Setting::new("memory.limit", "memory.max", or_max(limit)));
    }
    if let Some(value) = swap_max(memory.limit(), memory.swap())? {
        list.push(Setting::new("memory.swap", "memory.swap.max", value));
    }
    if let Some(low) = memory.reservation().filter(|&l| l != 0) {
        list.push(Setting::new("memory.reservation", "memory.low", or_max(low)));
    }
    Ok(())
}

/// The specification's `swap` is memory and swap together; cgroup2 wants swap alone.
fn swap_max(limit: Option<i64>, swap: Option<i64>) -> Result<Option<String>, Error> {
    let bad = |why| Err(Error::Unsupported { key: "linux.resources.memory.swap", why });
    match (limit.filter(|&l| l != 0), swap.filter(|&s| s != 0)) {
        (_, None) => Ok(None),
        (_, Some(-1)) => Ok(Some("max".to_owned())),
        (Some(limit), Some(swap)) if limit > 0 && swap >= limit => Ok(Some((swap - limit).to_string())),
        (Some(limit), Some(_)) if limit > 0 => bad("memory and swap together are less than memory.limit"),
        _ => bad("a limit on memory and swap together needs memory.limit"),
    }
}

fn cpu_settings(cpu: &LinuxCpu, list: &mut Vec<Setting>) -> Result<(), Error> {
    if let Some(shares) = cpu.shares().filter(|&s| s != 0) {
        list.push(Setting::new("cpu.shares", "cpu.weight", weight_of_shares(shares)));
    }
    if let Some(idle) = cpu.idle() {
        list.push(Setting::new("cpu.idle", "cpu.idle", idle));
    }
    // A burst above the quota is refused: first the new quota when it grows, so quota goes first; a
    // burst that does not fit the new quota is the configuration's own contradiction.
    let (quota, period) = (cpu.quota().filter(|&q| q != 0), cpu.period().filter(|&p| p != 0));
    if quota.is_some() || period.is_some() {
        let quota = quota.map_or_else(|| "max".to_owned(), or_max);
        let value = period.map_or_else(|| quota.clone(), |period| format!("{quota} {period}"));
        list.push(Setting::new("cpu.quota", "cpu.max", value));
    }
    if let Some(burst) = cpu.burst() {
        list.push(Setting::new("cpu.burst", "cpu.max.burst", burst));
    }
    if cpu.realtime_runtime().unwrap_or(0) != 0 || cpu.realtime_period().unwrap_or(0) != 0 {
        return Err(Error::Unsupported {
            key: "linux.resources.cpu.realtimeRuntime",
            why: "cgroup version 2 has no real-time groups",
        });
    }
    if let Some(cpus) = cpu.cpus().as_ref().filter(|c| !c.is_empty()) {
        list.push(Setting::new("cpu.cpus", "cpuset.cpus", cpus));
    }
    if let Some(mems) = cpu.mems().as_ref().filter(|m| !m.is_empty()) {
        list.push(Setting::new("cpu.mems", "cpuset.mems", mems));
    }
    Ok(())
}

/// Shares of 2 to 262144 (1024 by default) as a weight of 1 to 10000, in proportion.
fn weight_of_shares(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    1 + (shares - 2) * 9_999 / 262_142
}

fn io_settings(io: &LinuxBlockIo, list: &mut Vec<Setting>) {
    if let Some(weight) = io.weight().filter(|&w| w != 0) {
        let mut setting = Setting::new("blockIO.weight", "io.bfq.weight", weight);
        // Weights of 10 to 1000 become weights of 1 to 10000.
        let weight = u64::from(weight.clamp(10, 1000));
        setting.otherwise =
            Some(("io.weight".to_owned(), format!("default {}", 1 + (weight - 10) * 9_999 / 990)));
        list.push(setting);
    }
    for device in io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            let value = format!("{}:{} {weight}", device.major(), device.minor());
            list.push(Setting::new("blockIO.weightDevice", "io.bfq.weight", value));
        }
    }
    for (key, word, devices) in [
        ("blockIO.throttleReadBpsDevice", "rbps", io.throttle_read_bps_device()),
        ("blockIO.throttleWriteBpsDevice", "wbps", io.throttle_write_bps_device()),
        ("blockIO.throttleReadIOPSDevice", "riops", io.throttle_read_iops_device()),
        ("blockIO.throttleWriteIOPSDevice", "wiops", io.throttle_write_iops_device()),
    ] {
        for device in devices.iter().flatten() {
            let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
            let value = format!("{}:{} {word}={rate}", device.major(), device.minor());
            list.push(Setting::new(key, "io.max", value));
        }
    }
}

/// Enables the controllers on the way from `root` down to the parent of `path`, and writes the
/// settings to `dir`, which is `path` below `root`.
pub fn apply(root: &Path, path: &Path, dir: &Path, settings: &[Setting]) -> Result<(), Error> {
    let mut wanted: Vec<&str> = settings.iter().filter_map(Setting::controller).collect();
    wanted.sort_unstable();
    wanted.dedup();
    enable(root, path, &wanted)?;
    for setting in settings {
        let file = dir.join(&setting.file);
        match (&setting.otherwise, file.exists()) {
            (Some((other, value)), false) => write_setting(&setting.key, &dir.join(other), value)?,
            _ => write_setting(&setting.key, &file, &setting.value)?,
        }
    }
    Ok(())
}

/// Enables controllers in each directory above the leaf. Those that only account are enabled where
/// that works; those that are wanted must be.
fn enable(root: &Path, path: &Path, wanted: &[&str]) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(Path::new(""));
    let all = || wanted.iter().copied().chain(ACCOUNTED);
    // What the last level has, the levels above it have: mostly there is nothing to do.
    let last = root.join(parent).join("cgroup.subtree_control");
    let text = fs::read_to_string(&last).map_err(|source| Error::Io { doing: "read", path: last, source })?;
    if all().all(|c| text.split_ascii_whitespace().any(|e| e == c)) {
        return Ok(());
    }
    let mut dir = root.to_owned();
    for part in std::iter::once(None).chain(parent.components().map(Some)) {
        dir.extend(part);
        enable_one(&dir, wanted)?;
    }
    Ok(())
}

fn enable_one(dir: &Path, wanted: &[&str]) -> Result<(), Error> {
    let file = dir.join("cgroup.subtree_control");
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|source| Error::Io { doing: "read", path: path.to_owned(), source })
    };
    let available = read(&dir.join("cgroup.controllers"))?;
    let enabled = read(&file)?;
    let has = |text: &str, name: &str| text.split_ascii_whitespace().any(|word| word == name);
    for &controller in wanted {
        if has(&enabled, controller) || !has(&available, controller) {
            // Where it is not available the setting's own file is missing, and that error says more.
            continue;
        }
        let value = format!("+{controller}");
        write_existing(&file, &value).map_err(|source| Error::Write {
            key: format!("linux.resources ({controller})"),
            value,
            path: file.clone(),
            source,
        })?;
    }
    let others: Vec<String> = ACCOUNTED
        .iter()
        .filter(|c| !wanted.contains(c) && has(&available, c) && !has(&enabled, c))
        .map(|c| format!("+{c}"))
        .collect();
    if !others.is_empty() && write_existing(&file, &others.join(" ")).is_err() {
        // One of them may be what fails: each for itself then, as far as it goes.
        let _: Vec<io::Result<()>> = others.iter().map(|other| write_existing(&file, other)).collect();
    }
    Ok(())
}

#[cfg(test)]
mod tests;
