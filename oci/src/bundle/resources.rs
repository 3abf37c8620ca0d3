//! The limits of a cgroup (runtime-spec, config-linux.md "Control groups").

use kit_spec::node::resources::{
    BlockIo, Cpu, DeviceRule, HugepageLimit, InterfacePriority, Memory, Network, Resources, ThrottleDevice,
    WeightDevice,
};
use oci_spec::runtime;

use super::device_type;

/// What is not limited is left out.
pub(super) fn lower(resources: &Resources) -> runtime::LinuxResources {
    let mut lowered = runtime::LinuxResources::default();
    lowered.set_devices(each(&resources.devices, device_rule));
    lowered.set_memory(resources.memory.as_ref().map(memory));
    lowered.set_cpu(resources.cpu.as_ref().map(cpu));
    lowered.set_pids(resources.pids.as_ref().map(|pids| {
        let mut lowered = runtime::LinuxPids::default();
        lowered.set_limit(pids.limit);
        lowered
    }));
    lowered.set_block_io(resources.block_io.as_ref().map(block_io));
    lowered.set_hugepage_limits(each(&resources.hugepage_limits, hugepage_limit));
    lowered.set_network(resources.network.as_ref().map(network));
    lowered
}

fn device_rule(rule: &DeviceRule) -> runtime::LinuxDeviceCgroup {
    // No access written is all of it, for the runtimes too; saying so spares them the rule.
    let access = if rule.access.is_empty() { "rwm" } else { &rule.access };
    let mut lowered = runtime::LinuxDeviceCgroup::default();
    lowered.set_allow(rule.allow);
    lowered.set_typ(rule.kind.map(device_type));
    lowered.set_major(rule.major);
    lowered.set_minor(rule.minor);
    lowered.set_access(Some(access.to_owned()));
    lowered
}

fn memory(memory: &Memory) -> runtime::LinuxMemory {
    let mut lowered = runtime::LinuxMemory::default();
    lowered.set_limit(memory.limit);
    lowered.set_reservation(memory.reservation);
    lowered.set_swap(memory.swap);
    lowered.set_kernel(memory.kernel);
    lowered.set_kernel_tcp(memory.kernel_tcp);
    lowered.set_swappiness(memory.swappiness);
    lowered.set_disable_oom_killer(memory.disable_oom_killer.then_some(true));
    lowered
}

fn cpu(cpu: &Cpu) -> runtime::LinuxCpu {
    let list = |list: &String| (!list.is_empty()).then(|| list.clone());
    let mut lowered = runtime::LinuxCpu::default();
    lowered.set_shares(cpu.shares);
    lowered.set_quota(cpu.quota);
    lowered.set_period(cpu.period);
    lowered.set_realtime_runtime(cpu.realtime_runtime);
    lowered.set_realtime_period(cpu.realtime_period);
    lowered.set_cpus(list(&cpu.cpus));
    lowered.set_mems(list(&cpu.mems));
    lowered
}

fn block_io(block_io: &BlockIo) -> runtime::LinuxBlockIo {
    let mut lowered = runtime::LinuxBlockIo::default();
    lowered.set_weight(block_io.weight);
    lowered.set_leaf_weight(block_io.leaf_weight);
    lowered.set_weight_device(each(&block_io.weight_device, weight_device));
    lowered.set_throttle_read_bps_device(each(&block_io.throttle_read_bps_device, throttle_device));
    lowered.set_throttle_write_bps_device(each(&block_io.throttle_write_bps_device, throttle_device));
    lowered.set_throttle_read_iops_device(each(&block_io.throttle_read_iops_device, throttle_device));
    lowered.set_throttle_write_iops_device(each(&block_io.throttle_write_iops_device, throttle_device));
    lowered
}

fn weight_device(device: &WeightDevice) -> runtime::LinuxWeightDevice {
    let mut lowered = runtime::LinuxWeightDevice::default();
    lowered.set_major(device.major);
    lowered.set_minor(device.minor);
    lowered.set_weight(device.weight);
    lowered.set_leaf_weight(device.leaf_weight);
    lowered
}

fn throttle_device(device: &ThrottleDevice) -> runtime::LinuxThrottleDevice {
    let mut lowered = runtime::LinuxThrottleDevice::default();
    lowered.set_major(device.major);
    lowered.set_minor(device.minor);
    lowered.set_rate(device.rate);
    lowered
}

fn hugepage_limit(limit: &HugepageLimit) -> runtime::LinuxHugepageLimit {
    let mut lowered = runtime::LinuxHugepageLimit::default();
    lowered.set_page_size(limit.page_size.clone());
    // The kernel counts pages in a signed number: beyond it there is no limit that could be reached.
    lowered.set_limit(i64::try_from(limit.limit).unwrap_or(i64::MAX));
    lowered
}

fn network(network: &Network) -> runtime::LinuxNetwork {
    let priority = |priority: &InterfacePriority| {
        let mut lowered = runtime::LinuxInterfacePriority::default();
        lowered.set_name(priority.name.clone());
        lowered.set_priority(priority.priority);
        lowered
    };
    let mut lowered = runtime::LinuxNetwork::default();
    lowered.set_class_id(network.class_id);
    lowered.set_priorities(each(&network.priorities, priority));
    lowered
}

fn each<A, B>(list: &[A], lower: impl Fn(&A) -> B) -> Option<Vec<B>> {
    (!list.is_empty()).then(|| list.iter().map(lower).collect())
}
