//! PID 1's resident memory on a node with sixteen services that go on printing: the kernel's own sum over its mappings,
//! printed by one of them. Taken several times, since what grows with time would show; the most counts.

use kit_spec::artifact::Format;
use qemu_tests::bench::Table;
use qemu_tests::{Boot, Guest, Kitbuild};
use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

const SERVICES: usize = 16;
const TAKEN: usize = 5;
const WITHIN: Duration = Duration::from_secs(120);
const LIMIT_KIB: f64 = 2048.0;

pub fn measure(kitbuild: &Kitbuild, table: &mut Table) -> Result<(), Box<dyn Error>> {
    let built = kitbuild.build_text("sixteen", &node(), Format::KernelInitrd)?;
    let mut guest = Guest::boot(&built, &Boot::default())?;
    // As init says it; the kernel has failures of its own.
    guest.forbid(" failed: ");
    guest.line("kit: ready", WITHIN)?;
    let mut taken = Vec::new();
    for _ in 0..TAKEN {
        taken.push(kib(&guest.line("gauge: Rss:", WITHIN)?)?);
    }
    let most = taken.iter().copied().fold(0.0, f64::max);
    table.figure("PID 1 with 16 services, Rss: most of 5", most, Some(LIMIT_KIB), "KiB");
    table.figure("  the first", taken[0], None, "KiB");
    Ok(())
}

/// All print; the last one prints what PID 1 takes, too, once the others are there.
fn node() -> String {
    let mut node = String::from(
        "kernel:\n  image: kit/kernel\n  cmdline: console=ttyS0 quiet panic=1\ninit:\n  - kit/init\nservices:\n",
    );
    let names: Vec<String> = (1..SERVICES).map(|number| format!("busy{number}")).collect();
    for name in &names {
        // Writing to a string does not fail.
        let _ = write!(
            node,
            "  - name: {name}\n    image: deb:busybox-static\n    restart: always\n    \
            command: [/bin/busybox, sh, -c, \"while sleep 0.5; do echo $RANDOM; done\"]\n"
        );
    }
    let _ = write!(
        node,
        "  - name: gauge\n    image: deb:busybox-static\n    pid: host\n    capabilities: [CAP_SYS_PTRACE]\n    \
        after: [{}]\n    \
        command: [/bin/busybox, sh, -c, \"while sleep 2; do grep Rss: /proc/1/smaps_rollup; done\"]\n",
        names.join(", ")
    );
    node
}

/// `Rss:    1234 kB`.
fn kib(line: &str) -> Result<f64, String> {
    let number = line.split("Rss:").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| format!("no Rss in `{line}`"))
}
