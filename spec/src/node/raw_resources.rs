//! `resources` as it was written.

use super::raw::{List, TextOrNumber};
use super::read::Field;
use serde::Deserialize;

/// Limits of a container's cgroup, in the words of the OCI runtime specification. They take the place of all of the
/// label's.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Resources"))]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawResources {
    /// Which devices may be used, a later rule over an earlier one.
    pub devices: List<RawDeviceRule>,
    /// Memory.
    pub memory: Field<RawMemory>,
    /// Processor time.
    pub cpu: Field<RawCpu>,
    /// Number of processes.
    pub pids: Field<RawPids>,
    /// Reading and writing of block devices.
    #[serde(rename = "blockio")]
    pub block_io: Field<RawBlockIo>,
    /// Huge pages.
    pub hugepage_limits: List<RawHugepageLimit>,
    /// Network traffic. Of no effect under cgroup v2.
    pub network: Field<RawNetwork>,
}

/// Whether devices may be used.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "DeviceRule"))]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawDeviceRule {
    /// Whether the rule allows; it denies if left out.
    pub allow: Field<bool>,
    /// `a` any, `b` block, `c` character; any if left out.
    #[serde(rename = "type")]
    pub kind: Field<String>,
    /// Major number; any if left out.
    pub major: Field<i64>,
    /// Minor number; any if left out.
    pub minor: Field<i64>,
    /// Some of `r` (read), `w` (write) and `m` (make a node).
    pub access: Field<String>,
}

/// Limits of memory in bytes; -1 for none.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Memory"))]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawMemory {
    /// Most memory.
    pub limit: Field<i64>,
    /// Memory that is kept for it when memory runs short.
    pub reservation: Field<i64>,
    /// Most memory and swap together.
    pub swap: Field<i64>,
    /// Most kernel memory. Of no effect under cgroup v2.
    pub kernel: Field<i64>,
    /// Most kernel memory for TCP. Of no effect under cgroup v2.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: Field<i64>,
    /// How readily memory is swapped out, 0 to 100. Of no effect under cgroup v2.
    pub swappiness: Field<i64>,
    /// Whether a process waits for memory instead of being ended. Of no effect under cgroup v2.
    #[serde(rename = "disableOOMKiller")]
    pub disable_oom_killer: Field<bool>,
}

/// Limits of processor time.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Cpu"))]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawCpu {
    /// Weight against other cgroups, 2 to 262144.
    pub shares: Field<i64>,
    /// Microseconds of processor time in each period; -1 for no limit.
    pub quota: Field<i64>,
    /// The period in microseconds.
    pub period: Field<i64>,
    /// Microseconds of real-time in each period. Of no effect under cgroup v2.
    pub realtime_runtime: Field<i64>,
    /// The real-time period in microseconds. Of no effect under cgroup v2.
    pub realtime_period: Field<i64>,
    /// The processors to use: `0-2,7`.
    pub cpus: Field<String>,
    /// The memory nodes to use: `0-2,7`.
    pub mems: Field<String>,
}

/// Limit of the number of processes.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Pids"))]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawPids {
    /// Most processes and threads; -1 for no limit.
    pub limit: Field<i64>,
}

/// Limits of reading and writing block devices.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "BlockIo"))]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawBlockIo {
    /// Weight against other cgroups, 10 to 1000.
    pub weight: Field<i64>,
    /// Weight against its own children, 10 to 1000. Of no effect under cgroup v2.
    pub leaf_weight: Field<i64>,
    /// Weights for single devices.
    pub weight_device: List<RawWeightDevice>,
    /// Most bytes read in a second, by device.
    pub throttle_read_bps_device: List<RawThrottleDevice>,
    /// Most bytes written in a second, by device.
    pub throttle_write_bps_device: List<RawThrottleDevice>,
    /// Most reads in a second, by device.
    #[serde(rename = "throttleReadIOPSDevice")]
    pub throttle_read_iops_device: List<RawThrottleDevice>,
    /// Most writes in a second, by device.
    #[serde(rename = "throttleWriteIOPSDevice")]
    pub throttle_write_iops_device: List<RawThrottleDevice>,
}

/// Weights for one block device.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "WeightDevice"))]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawWeightDevice {
    /// Major number.
    pub major: Field<i64>,
    /// Minor number.
    pub minor: Field<i64>,
    /// Weight against other cgroups, 10 to 1000.
    pub weight: Field<i64>,
    /// Weight against its own children, 10 to 1000. Of no effect under cgroup v2.
    pub leaf_weight: Field<i64>,
}

/// A limit for one block device.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "ThrottleDevice"))]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawThrottleDevice {
    /// Major number.
    pub major: Field<i64>,
    /// Minor number.
    pub minor: Field<i64>,
    /// Bytes or operations in a second.
    pub rate: Field<i64>,
}

/// Limit of huge pages of one size.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "HugepageLimit"))]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawHugepageLimit {
    /// Size of the pages: bytes, or `2MB`, `1GB` as the kernel names it.
    pub page_size: Field<TextOrNumber>,
    /// Most bytes.
    pub limit: Field<i64>,
}

/// Limits of network traffic. Of no effect under cgroup v2.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Network"))]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawNetwork {
    /// The class of its packets.
    #[serde(rename = "classID")]
    pub class_id: Field<i64>,
    /// Priorities by interface.
    pub priorities: List<RawInterfacePriority>,
}

/// Priority of the traffic of one interface.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "InterfacePriority"))]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawInterfacePriority {
    /// The interface.
    pub name: Field<String>,
    /// The priority.
    pub priority: Field<i64>,
}
