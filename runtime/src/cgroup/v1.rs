//! Limits under version 1, for machines that still mount it: hierarchies, files, values.

use super::devices::Rule;
use super::{Error, write_setting};
use oci_spec::runtime::{LinuxResources, LinuxThrottleDevice};
use std::fs;
use std::path::{Path, PathBuf};

/// The hierarchies that hold limits, by the names of their mount points.
pub const CONTROLLERS: [&str; 8] =
    ["blkio", "cpu", "cpuset", "devices", "freezer", "hugetlb", "memory", "pids"];

/// A value for a file of one hierarchy's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The key of the configuration that asks for it.
    pub key: String,
    /// The hierarchy.
    pub controller: &'static str,
    /// The file.
    pub file: String,
    /// The value.
    pub value: String,
}

fn setting(key: &str, controller: &'static str, file: &str, value: impl ToString) -> Setting {
    Setting {
        key: format!("linux.resources.{key}"),
        controller,
        file: file.to_owned(),
        value: value.to_string(),
    }
}

/// The files and values for `resources` but its devices, in the order to be written.
pub fn settings(resources: &LinuxResources) -> Result<Vec<Setting>, Error> {
    let mut list = Vec::new();
    memory_settings(resources, &mut list);
    cpu_settings(resources, &mut list);
    if let Some(limit) = resources.pids().map(|p| p.limit()) {
        let value = if limit <= 0 { "max".to_owned() } else { limit.to_string() };
        list.push(setting("pids.limit", "pids", "pids.max", value));
    }
    io_settings(resources, &mut list);
    for limit in resources.hugepage_limits().iter().flatten() {
        let file = format!("hugetlb.{}.limit_in_bytes", limit.page_size());
        list.push(setting("hugepageLimits", "hugetlb", &file, limit.limit()));
    }
    for (key, asked) in [
        ("linux.resources.unified", resources.unified().as_ref().is_some_and(|u| !u.is_empty())),
        ("linux.resources.rdma", resources.rdma().as_ref().is_some_and(|r| !r.is_empty())),
        (
            "linux.resources.network",
            resources.network().as_ref().is_some_and(|n| n.class_id().unwrap_or(0) != 0),
        ),
    ] {
        if asked {
            return Err(Error::Unsupported { key, why: "needs a machine with cgroup version 2 only" });
        }
    }
    Ok(list)
}

fn memory_settings(resources: &LinuxResources, list: &mut Vec<Setting>) {
    let Some(memory) = resources.memory() else { return };
    let mut put = |key: &str, file: &str, value: Option<i64>| {
        list.extend(value.filter(|&v| v != 0).map(|v| setting(key, "memory", file, v)));
    };
    put("memory.limit", "memory.limit_in_bytes", memory.limit());
    put("memory.swap", "memory.memsw.limit_in_bytes", memory.swap());
    put("memory.reservation", "memory.soft_limit_in_bytes", memory.reservation());
    put("memory.swappiness", "memory.swappiness", memory.swappiness().map(|s| s as i64));
    if memory.disable_oom_killer() == Some(true) {
        list.push(setting("memory.disableOOMKiller", "memory", "memory.oom_control", 1));
    }
}

/// Memory alone may never have a higher limit than memory and swap together: where the new one is above the
/// old limit on both, that one has to be raised first.
pub fn order_memory(settings: &mut [Setting], dir_of: impl Fn(&Setting) -> PathBuf) {
    let place = |file: &str| settings.iter().position(|s| s.file == file);
    let (Some(memory), Some(both)) = (place("memory.limit_in_bytes"), place("memory.memsw.limit_in_bytes"))
    else {
        return;
    };
    let now = fs::read_to_string(dir_of(&settings[both]).join(&settings[both].file)).unwrap_or_default();
    // No limit is written as -1 and read as a number near the largest.
    let number = |text: &str| text.trim().parse::<i64>().ok().map(|n| if n < 0 { i64::MAX } else { n });
    if number(&settings[memory].value) > number(&now) {
        settings.swap(memory, both);
    }
}

fn cpu_settings(resources: &LinuxResources, list: &mut Vec<Setting>) {
    let Some(cpu) = resources.cpu() else { return };
    let mut put = |key: &str, file: &str, value: Option<i64>| {
        list.extend(value.filter(|&v| v != 0).map(|v| setting(key, "cpu", file, v)));
    };
    let signed = |value: Option<u64>| value.map(|v| i64::try_from(v).unwrap_or(i64::MAX));
    put("cpu.shares", "cpu.shares", signed(cpu.shares()));
    put("cpu.period", "cpu.cfs_period_us", signed(cpu.period()));
    put("cpu.quota", "cpu.cfs_quota_us", cpu.quota());
    put("cpu.burst", "cpu.cfs_burst_us", signed(cpu.burst()));
    put("cpu.idle", "cpu.idle", cpu.idle());
    put("cpu.realtimePeriod", "cpu.rt_period_us", signed(cpu.realtime_period()));
    put("cpu.realtimeRuntime", "cpu.rt_runtime_us", cpu.realtime_runtime());
    for (key, file, value) in
        [("cpu.cpus", "cpuset.cpus", cpu.cpus()), ("cpu.mems", "cpuset.mems", cpu.mems())]
    {
        let value = value.as_ref().filter(|v| !v.is_empty());
        list.extend(value.map(|v| setting(key, "cpuset", file, v)));
    }
}

fn io_settings(resources: &LinuxResources, list: &mut Vec<Setting>) {
    let Some(io) = resources.block_io() else { return };
    if let Some(weight) = io.weight().filter(|&w| w != 0) {
        list.push(setting("blockIO.weight", "blkio", "blkio.bfq.weight", weight));
    }
    let mut throttle = |key: &str, file: &str, devices: &Option<Vec<LinuxThrottleDevice>>| {
        for device in devices.iter().flatten() {
            let value = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            list.push(setting(key, "blkio", file, value));
        }
    };
    let name = |what: &str, word: &str| format!("blkio.throttle.{what}_{word}_device");
    throttle("blockIO.throttleReadBpsDevice", &name("read", "bps"), io.throttle_read_bps_device());
    throttle("blockIO.throttleWriteBpsDevice", &name("write", "bps"), io.throttle_write_bps_device());
    throttle("blockIO.throttleReadIOPSDevice", &name("read", "iops"), io.throttle_read_iops_device());
    throttle("blockIO.throttleWriteIOPSDevice", &name("write", "iops"), io.throttle_write_iops_device());
}

/// The writes that make the version 1 device controller follow the rules.
pub fn device_settings(rules: &[Rule]) -> Vec<Setting> {
    rules
        .iter()
        .map(|rule| {
            let file = if rule.allow { "devices.allow" } else { "devices.deny" };
            setting("devices", "devices", file, rule.v1_text())
        })
        .collect()
}

/// A cpuset takes no process until it has CPUs and memory nodes: those of its parent, from the top.
pub fn inherit_cpuset(root: &Path, path: &Path) -> Result<(), Error> {
    let mut dir = root.to_owned();
    for part in path.components() {
        let parent = dir.clone();
        dir.push(part);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let read = |dir: &Path| {
                let path = dir.join(file);
                fs::read_to_string(&path).map_err(|source| Error::Io { doing: "read", path, source })
            };
            if read(&dir)?.trim().is_empty() {
                write_setting("linux.resources.cpu", &dir.join(file), read(&parent)?.trim())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::devices::with_defaults;

    #[test]
    fn each_limit_has_its_hierarchy_and_file() {
        let resources: LinuxResources = serde_json::from_str(
            r#"{"memory":{"limit":100,"swap":-1},"cpu":{"quota":-1,"period":10,"cpus":"0"},
                "pids":{"limit":5},"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#,
        )
        .unwrap();
        let list: Vec<String> = settings(&resources)
            .unwrap()
            .iter()
            .map(|s| format!("{}/{}={}", s.controller, s.file, s.value))
            .collect();
        assert_eq!(
            list,
            [
                "memory/memory.limit_in_bytes=100",
                "memory/memory.memsw.limit_in_bytes=-1",
                "cpu/cpu.cfs_period_us=10",
                "cpu/cpu.cfs_quota_us=-1",
                "cpuset/cpuset.cpus=0",
                "pids/pids.max=5",
                "hugetlb/hugetlb.2MB.limit_in_bytes=0",
            ]
        );
    }

    #[test]
    fn memory_and_swap_together_are_raised_first_and_lowered_last() {
        let dir = tempfile::tempdir().unwrap();
        let now = dir.path().join("memory.memsw.limit_in_bytes");
        let order = |json: &str| {
            let mut list = settings(&serde_json::from_str(json).unwrap()).unwrap();
            order_memory(&mut list, |_| dir.path().to_owned());
            list.iter().map(|s| s.value.clone()).collect::<Vec<_>>()
        };
        fs::write(&now, "200\n").unwrap();
        assert_eq!(order(r#"{"memory":{"limit":300,"swap":400}}"#), ["400", "300"]);
        assert_eq!(order(r#"{"memory":{"limit":-1,"swap":-1}}"#), ["-1", "-1"]);
        assert_eq!(order(r#"{"memory":{"limit":100,"swap":150}}"#), ["100", "150"]);
        fs::write(&now, "9223372036854771712\n").unwrap();
        assert_eq!(order(r#"{"memory":{"limit":300,"swap":400}}"#), ["300", "400"]);
    }

    #[test]
    fn device_rules_are_written_as_they_come() {
        let rules: Vec<oci_spec::runtime::LinuxDeviceCgroup> = serde_json::from_str(
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"access":"rw"}]"#,
        )
        .unwrap();
        let list = device_settings(&with_defaults(&rules));
        let text = |s: &Setting| format!("{} {}", s.file, s.value);
        assert_eq!(text(&list[0]), "devices.deny a");
        assert_eq!(text(&list[1]), "devices.allow c 10:* rw");
        assert!(list.iter().any(|s| text(s) == "devices.allow c 1:3 rwm"));
    }
}
