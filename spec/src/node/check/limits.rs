//! `resources`: ranges, and keys that do nothing under cgroup v2.

use super::{Checker, each};
use crate::node::raw::{List, TextOrNumber};
use crate::node::raw_resources::{
    RawBlockIo, RawCpu, RawDeviceRule, RawHugepageLimit, RawMemory, RawNetwork, RawResources,
    RawThrottleDevice, RawWeightDevice,
};
use crate::node::read::{Field, Place};
use crate::node::resources::{
    BlockIo, Cpu, DeviceRule, HugepageLimit, InterfacePriority, Memory, Network, Pids, Resources,
    ThrottleDevice, WeightDevice,
};
use crate::node::settings::DeviceType;

/// Types that a rule can speak of.
const RULE_TYPES: [(&str, DeviceType); 3] =
    [("a", DeviceType::Any), ("b", DeviceType::Block), ("c", DeviceType::Char)];

/// How the kernel names a size of pages, and how many bytes that is.
const PAGE_UNITS: [(&str, i64); 3] = [("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)];

impl Checker<'_> {
    pub(super) fn resources(&self, raw: &RawResources) -> Resources {
        let pids = raw.pids.given().and_then(|(at, pids)| {
            let limit = self.needed(at, "limit", &pids.limit, -1);
            limit.map(|limit| Pids { limit })
        });
        Resources {
            devices: each(&raw.devices).map(|(_, rule)| self.device_rule(rule)).collect(),
            memory: raw.memory.get().map(|memory| self.memory(memory)),
            cpu: raw.cpu.get().map(|cpu| self.cpu(cpu)),
            pids,
            block_io: raw.block_io.get().map(|block_io| self.block_io(block_io)),
            hugepage_limits: each(&raw.hugepage_limits)
                .filter_map(|(at, limit)| self.hugepage_limit(at, limit))
                .collect(),
            network: raw.network.get().map(|network| self.network(&raw.network, network)),
        }
    }

    fn device_rule(&self, raw: &RawDeviceRule) -> DeviceRule {
        let access = raw.access.get().cloned().unwrap_or_default();
        if let (false, Some(place)) = (access.chars().all(|c| "rwm".contains(c)), raw.access.place()) {
            self.error(place, format!("`{access}` is not an access"), "write some of `r`, `w` and `m`");
        }
        DeviceRule {
            allow: raw.allow.get().copied().unwrap_or(false),
            kind: self.one_of(&raw.kind, &RULE_TYPES, "a type of device"),
            major: self.number(&raw.major, "`major`", -1, i64::MAX).filter(|number| *number >= 0),
            minor: self.number(&raw.minor, "`minor`", -1, i64::MAX).filter(|number| *number >= 0),
            access,
        }
    }

    fn memory(&self, raw: &RawMemory) -> Memory {
        for place in
            [raw.kernel.place(), raw.kernel_tcp.place(), raw.swappiness.place()].into_iter().flatten()
        {
            self.of_cgroup_v1(place);
        }
        self.of_cgroup_v1_if(raw.disable_oom_killer.place());
        let limit = self.number(&raw.limit, "`limit`", -1, i64::MAX);
        let swap = self.number(&raw.swap, "`swap`", -1, i64::MAX);
        if let (Some(limit), Some(swap), Some(place)) = (limit, swap, raw.swap.place())
            && swap != -1
            && swap < limit
        {
            let message = format!("`swap` ({swap}) is memory and swap together, and below `limit` ({limit})");
            self.error(place, message, "write the sum of both");
        }
        Memory {
            limit,
            reservation: self.number(&raw.reservation, "`reservation`", -1, i64::MAX),
            swap,
            kernel: self.number(&raw.kernel, "`kernel`", -1, i64::MAX),
            kernel_tcp: self.number(&raw.kernel_tcp, "`kernelTCP`", -1, i64::MAX),
            swappiness: self.number(&raw.swappiness, "`swappiness`", 0, 100),
            disable_oom_killer: raw.disable_oom_killer.get().copied().unwrap_or(false),
        }
    }

    fn cpu(&self, raw: &RawCpu) -> Cpu {
        self.of_cgroup_v1_if(raw.realtime_runtime.place());
        self.of_cgroup_v1_if(raw.realtime_period.place());
        Cpu {
            shares: self.number(&raw.shares, "`shares`", 2, 262_144),
            quota: self.number(&raw.quota, "`quota`", -1, i64::MAX),
            period: self.number(&raw.period, "`period`", 1_000, 1_000_000),
            realtime_runtime: self.number(&raw.realtime_runtime, "`realtimeRuntime`", -1, i64::MAX),
            realtime_period: self.number(&raw.realtime_period, "`realtimePeriod`", 1, i64::MAX),
            cpus: self.number_list(&raw.cpus),
            mems: self.number_list(&raw.mems),
        }
    }

    /// `0-2,7` (cpuset(7), "List format").
    fn number_list(&self, field: &Field<String>) -> String {
        let Some((place, text)) = field.given().filter(|(_, text)| !text.is_empty()) else {
            return String::new();
        };
        let number =
            |text: &str| Some(text).filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?.parse::<u32>().ok();
        let range = |item: &str| match item.split_once('-') {
            None => number(item).is_some(),
            Some((first, last)) => number(first).zip(number(last)).is_some_and(|(first, last)| first <= last),
        };
        if !text.split(',').all(|item| range(item.trim())) {
            self.error(place, format!("`{text}` is not a list of numbers"), "write such as `0-2,7`");
        }
        text.clone()
    }

    fn block_io(&self, raw: &RawBlockIo) -> BlockIo {
        self.of_cgroup_v1_if(raw.leaf_weight.place());
        let throttle = |list: &List<RawThrottleDevice>| {
            each(list).filter_map(|(at, device)| self.throttle_device(at, device)).collect()
        };
        BlockIo {
            weight: self.number(&raw.weight, "`weight`", 10, 1000),
            leaf_weight: self.number(&raw.leaf_weight, "`leafWeight`", 10, 1000),
            weight_device: each(&raw.weight_device)
                .filter_map(|(at, device)| self.weight_device(at, device))
                .collect(),
            throttle_read_bps_device: throttle(&raw.throttle_read_bps_device),
            throttle_write_bps_device: throttle(&raw.throttle_write_bps_device),
            throttle_read_iops_device: throttle(&raw.throttle_read_iops_device),
            throttle_write_iops_device: throttle(&raw.throttle_write_iops_device),
        }
    }

    fn weight_device(&self, at: Place, raw: &RawWeightDevice) -> Option<WeightDevice> {
        self.of_cgroup_v1_if(raw.leaf_weight.place());
        let (major, minor) =
            (self.needed(at, "major", &raw.major, 0), self.needed(at, "minor", &raw.minor, 0));
        Some(WeightDevice {
            weight: self.number(&raw.weight, "`weight`", 10, 1000),
            leaf_weight: self.number(&raw.leaf_weight, "`leafWeight`", 10, 1000),
            major: major?,
            minor: minor?,
        })
    }

    fn throttle_device(&self, at: Place, raw: &RawThrottleDevice) -> Option<ThrottleDevice> {
        let (major, minor) =
            (self.needed(at, "major", &raw.major, 0), self.needed(at, "minor", &raw.minor, 0));
        let rate = self.needed(at, "rate", &raw.rate, 0);
        Some(ThrottleDevice { major: major?, minor: minor?, rate: rate?.cast_unsigned() })
    }

    fn hugepage_limit(&self, at: Place, raw: &RawHugepageLimit) -> Option<HugepageLimit> {
        let limit = self.needed(at, "limit", &raw.limit, 0);
        let page_size = match &raw.page_size {
            Field::Absent => {
                self.error(at, "the key `pageSize` is missing", "add `pageSize: 2MB`");
                None
            }
            Field::Bad(_) => None,
            Field::Given(place, size) => {
                let named = page_size(size);
                if named.is_none() {
                    let hint = "write such as `2MB` or `1GB`, or the number of bytes";
                    self.error(*place, "not a size that pages can have", hint);
                }
                named
            }
        };
        Some(HugepageLimit { page_size: page_size?, limit: limit?.cast_unsigned() })
    }

    fn network(&self, field: &Field<RawNetwork>, raw: &RawNetwork) -> Network {
        self.of_cgroup_v1_if(field.place());
        let priority = |(at, raw): (Place, &crate::node::raw_resources::RawInterfacePriority)| {
            let name = self.required(at, "name", &raw.name);
            let priority = self.needed(at, "priority", &raw.priority, 0)?;
            Some(InterfacePriority { name: name?.1.to_owned(), priority: u32::try_from(priority).ok()? })
        };
        Network {
            class_id: self.number(&raw.class_id, "`classID`", 0, i64::from(u32::MAX)),
            priorities: each(&raw.priorities).filter_map(priority).collect(),
        }
    }

    /// A number that must be there.
    fn needed(&self, at: Place, key: &str, field: &Field<i64>, least: i64) -> Option<i64> {
        if field.is_absent() {
            self.error(at, format!("the key `{key}` is missing"), format!("add `{key}: ..`"));
        }
        self.number(field, &format!("`{key}`"), least, i64::MAX)
    }

    fn of_cgroup_v1_if(&self, place: Option<Place>) {
        if let Some(place) = place {
            self.of_cgroup_v1(place);
        }
    }

    fn of_cgroup_v1(&self, place: Place) {
        let message = format!("`{}` has no effect: cgroup v2 has nothing like it", self.key(place));
        self.warning_at_key(place, message, "remove it");
    }
}

/// The kernel's name of a size: `2MB` for `2MB` and for 2097152.
fn page_size(size: &TextOrNumber) -> Option<String> {
    let bytes = match size {
        TextOrNumber::Number(bytes) => *bytes,
        TextOrNumber::Text(text) => {
            let (unit, scale) = PAGE_UNITS.iter().find(|(unit, _)| text.ends_with(unit))?;
            let count = text.strip_suffix(unit)?;
            let digits = count.bytes().all(|b| b.is_ascii_digit());
            count.parse::<i64>().ok().filter(|_| digits)?.checked_mul(*scale)?
        }
    };
    let (unit, scale) = PAGE_UNITS.iter().find(|(_, scale)| bytes > 0 && bytes % scale == 0)?;
    Some(format!("{}{unit}", bytes / scale))
}
