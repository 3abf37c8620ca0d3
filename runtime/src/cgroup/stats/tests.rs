use super::*;

/// A directory with these files, as a cgroup.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

#[test]
fn version_2_is_told_in_the_words_of_version_1() {
    let dir = directory(&[
        (
            "cpu.stat",
            "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 2\nthrottled_usec 7\n",
        ),
        ("cpu.pressure", "some avg10=1.50 avg60=0.00 avg300=0.00 total=9\n"),
        ("cpuset.cpus.effective", "0-2,5\n"),
        ("memory.current", "100\n"),
        ("memory.max", "1000\n"),
        ("memory.peak", "150\n"),
        ("memory.events", "low 0\nmax 3\noom 1\noom_kill 1\n"),
        ("memory.swap.current", "5\n"),
        ("memory.swap.max", "max\n"),
        ("memory.stat", "anon 60\nfile 40\n"),
        ("pids.current", "2\n"),
        ("pids.max", "max\n"),
        ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"),
        ("hugetlb.2MB.current", "0\n"),
        ("hugetlb.2MB.events", "max 6\n"),
    ]);
    let place = Place { v2: Some(dir.path().to_owned()), v1: Vec::new() };
    let stats = read(&place);
    assert_eq!(
        stats["cpu"],
        json!({
            "usage": {"total": 30_000, "user": 20_000, "kernel": 10_000},
            "throttling": {"periods": 4, "throttledPeriods": 2, "throttledTime": 7000},
            "psi": {"some": {"avg10": 1.5, "avg60": 0.0, "avg300": 0.0, "total": 9}},
        })
    );
    assert_eq!(stats["cpuset"], json!({"cpus": [0, 1, 2, 5]}));
    assert_eq!(
        stats["memory"],
        json!({
            "usage": {"usage": 100, "limit": 1000, "max": 150, "failcnt": 3},
            "swap": {"usage": 105, "limit": u64::MAX, "failcnt": 0},
            "cache": 40, "raw": {"anon": 60, "file": 40},
        })
    );
    assert_eq!(stats["pids"], json!({"current": 2, "limit": 0}));
    let bytes = &stats["blkio"]["ioServiceBytesRecursive"];
    assert_eq!(bytes[1], json!({"major": 8, "minor": 0, "op": "Write", "value": 2}));
    assert_eq!(stats["blkio"]["ioServicedRecursive"][0]["value"], 3);
    assert_eq!(stats["hugetlb"], json!({"2MB": {"usage": 0, "failcnt": 6}}));
    assert_eq!(oom_kills(dir.path()), 1);
}

#[test]
fn version_1_is_gathered_from_its_hierarchies() {
    let cpu = directory(&[
        ("cpuacct.usage", "300\n"),
        ("cpuacct.usage_percpu", "100 200 \n"),
        ("cpuacct.stat", "user 2\nsystem 1\n"),
        ("cpu.stat", "nr_periods 1\nnr_throttled 1\nthrottled_time 50\n"),
    ]);
    let memory = directory(&[
        ("memory.usage_in_bytes", "10\n"),
        ("memory.limit_in_bytes", "20\n"),
        ("memory.memsw.usage_in_bytes", "11\n"),
        ("memory.stat", "cache 4\n"),
    ]);
    let io = directory(&[("blkio.throttle.io_serviced_recursive", "8:16 Read 7\n8:16 Total 7\nTotal 7\n")]);
    let dirs = [&cpu, &memory, &io].map(|dir| dir.path().to_owned());
    let stats = read(&Place { v2: None, v1: dirs.to_vec() });
    assert_eq!(
        stats["cpu"]["usage"],
        json!({"total": 300, "user": 20_000_000, "kernel": 10_000_000, "percpu": [100, 200]})
    );
    assert_eq!(stats["cpu"]["throttling"]["throttledTime"], 50);
    assert_eq!(stats["memory"]["usage"], json!({"usage": 10, "limit": 20, "max": 0, "failcnt": 0}));
    assert_eq!(stats["memory"]["swap"]["usage"], 11);
    assert_eq!(stats["memory"]["cache"], 4);
    let operations = stats["blkio"]["ioServicedRecursive"].as_array().unwrap();
    assert_eq!(operations.len(), 2);
    assert_eq!(operations[0], json!({"major": 8, "minor": 16, "op": "Read", "value": 7}));
}

#[test]
fn a_container_without_cgroups_still_has_the_shape() {
    let stats = read(&Place::default());
    for key in ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt"] {
        assert!(stats[key].is_object(), "{key}");
    }
}
