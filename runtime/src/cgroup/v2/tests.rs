use super::*;

fn of(json: &str) -> Result<Vec<(String, String)>, String> {
    let resources: LinuxResources = serde_json::from_str(json).unwrap();
    match settings(&resources) {
        Ok(list) => Ok(list.into_iter().map(|s| (s.file, s.value)).collect()),
        Err(error) => Err(error.to_string()),
    }
}

fn pairs(list: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
    Ok(list.iter().map(|&(a, b)| (a.to_owned(), b.to_owned())).collect())
}

#[test]
fn each_limit_has_its_file() {
    for (json, expected) in [
        (r#"{"memory":{"limit":1048576}}"#, &[("memory.max", "1048576")][..]),
        (r#"{"memory":{"limit":-1,"swap":-1}}"#, &[("memory.max", "max"), ("memory.swap.max", "max")]),
        (
            r#"{"memory":{"limit":100,"swap":150,"reservation":50}}"#,
            &[("memory.max", "100"), ("memory.swap.max", "50"), ("memory.low", "50")],
        ),
        (r#"{"memory":{"limit":100,"swap":100}}"#, &[("memory.max", "100"), ("memory.swap.max", "0")]),
        (r#"{"cpu":{"shares":1024}}"#, &[("cpu.weight", "39")]),
        (r#"{"cpu":{"quota":50000,"period":100000}}"#, &[("cpu.max", "50000 100000")]),
        (r#"{"cpu":{"quota":-1,"period":100000}}"#, &[("cpu.max", "max 100000")]),
        (r#"{"cpu":{"quota":5000}}"#, &[("cpu.max", "5000")]),
        (r#"{"cpu":{"period":5000}}"#, &[("cpu.max", "max 5000")]),
        (
            r#"{"cpu":{"idle":1,"burst":7,"cpus":"0-1","mems":"0"}}"#,
            &[("cpu.idle", "1"), ("cpu.max.burst", "7"), ("cpuset.cpus", "0-1"), ("cpuset.mems", "0")],
        ),
        (r#"{"pids":{"limit":32}}"#, &[("pids.max", "32")]),
        (r#"{"pids":{"limit":-1}}"#, &[("pids.max", "max")]),
        (r#"{"pids":{"limit":0}}"#, &[("pids.max", "max")]),
        (r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#, &[("hugetlb.2MB.max", "4194304")]),
        (r#"{"blockIO":{"weight":500}}"#, &[("io.bfq.weight", "500")]),
        (
            r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1000}],
                "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":0}]}}"#,
            &[("io.max", "8:0 rbps=1000"), ("io.max", "8:0 wiops=max")],
        ),
        (
            r#"{"rdma":{"mlx5_1":{"hcaHandles":3},"mlx5_0":{"hcaObjects":4}}}"#,
            &[("rdma.max", "mlx5_0 hca_object=4"), ("rdma.max", "mlx5_1 hca_handle=3")],
        ),
        (
            r#"{"unified":{"memory.high":"7","cpu.uclamp.min":"1"}}"#,
            &[("cpu.uclamp.min", "1"), ("memory.high", "7")],
        ),
    ] {
        assert_eq!(of(json), pairs(expected), "{json}");
    }
}

#[test]
fn what_cgroup2_cannot_do_is_an_error_that_names_the_key() {
    for (json, key) in [
        (r#"{"memory":{"swap":100}}"#, "linux.resources.memory.swap"),
        (r#"{"memory":{"limit":100,"swap":50}}"#, "linux.resources.memory.swap"),
        (r#"{"cpu":{"realtimeRuntime":1}}"#, "linux.resources.cpu.realtimeRuntime"),
        (r#"{"network":{"classID":1}}"#, "linux.resources.network"),
        (r#"{"unified":{"../x":"1"}}"#, "linux.resources.unified"),
    ] {
        let error = of(json).unwrap_err();
        assert!(error.starts_with(key), "{error}");
    }
}

#[test]
fn an_update_keeps_what_it_does_not_mention() {
    let dir = tempfile::tempdir().unwrap();
    for (file, text) in [("cpu.max", "5000 100000\n"), ("memory.max", "100\n"), ("memory.current", "50\n")] {
        fs::write(dir.path().join(file), text).unwrap();
    }
    let of = |json: &str| {
        let resources = completed(dir.path(), &serde_json::from_str(json).unwrap())?;
        Ok(settings(&resources)?.into_iter().map(|s| format!("{}={}", s.file, s.value)).collect::<Vec<_>>())
    };
    let fine = |json: &str| of(json).unwrap();
    assert_eq!(fine(r#"{"cpu":{"period":50000}}"#), ["cpu.max=5000 50000"]);
    assert_eq!(fine(r#"{"cpu":{"quota":-1,"period":50000}}"#), ["cpu.max=max 50000"]);
    assert_eq!(fine(r#"{"memory":{"swap":150}}"#), ["memory.max=100", "memory.swap.max=50"]);
    assert_eq!(fine(r#"{"memory":{"limit":60,"checkBeforeUpdate":true}}"#), ["memory.max=60"]);
    let error: Error = of(r#"{"memory":{"limit":40,"checkBeforeUpdate":true}}"#).unwrap_err();
    assert_eq!(error.to_string(), "linux.resources.memory.limit: 40 bytes are less than the 50 in use");
}

#[test]
fn weights_span_their_whole_range() {
    assert_eq!((weight_of_shares(0), weight_of_shares(2)), (1, 1));
    assert_eq!((weight_of_shares(262_144), weight_of_shares(u64::MAX)), (10_000, 10_000));
    let resources: LinuxResources = serde_json::from_str(r#"{"blockIO":{"weight":1000}}"#).unwrap();
    let otherwise = settings(&resources).unwrap()[0].otherwise.clone();
    assert_eq!(otherwise, Some(("io.weight".to_owned(), "default 10000".to_owned())));
}

#[test]
fn controllers_are_enabled_from_the_top_and_settings_written_at_the_leaf() {
    let root = tempfile::tempdir().unwrap();
    let leaf = root.path().join("a/b/c");
    fs::create_dir_all(&leaf).unwrap();
    for (dir, available) in [("", "cpu memory"), ("a", "memory"), ("a/b", "memory")] {
        fs::write(root.path().join(dir).join("cgroup.controllers"), available).unwrap();
        fs::write(root.path().join(dir).join("cgroup.subtree_control"), "").unwrap();
    }
    fs::write(root.path().join("cgroup.subtree_control"), "cpu memory").unwrap();
    fs::write(leaf.join("memory.max"), "").unwrap();
    let resources: LinuxResources = serde_json::from_str(r#"{"memory":{"limit":5}}"#).unwrap();
    let list = settings(&resources).unwrap();
    apply(root.path(), Path::new("a/b/c"), &leaf, &list).unwrap();
    let control =
        |dir: &str| fs::read_to_string(root.path().join(dir).join("cgroup.subtree_control")).unwrap();
    assert_eq!([control(""), control("a"), control("a/b")], ["cpu memory", "+memory", "+memory"]);
    assert_eq!(fs::read_to_string(leaf.join("memory.max")).unwrap(), "5");
    fs::remove_file(leaf.join("memory.max")).unwrap();
    let error = apply(root.path(), Path::new("a/b/c"), &leaf, &list).unwrap_err();
    assert_eq!(error.to_string(), "linux.resources.memory.limit: this machine has no memory.max");
}
