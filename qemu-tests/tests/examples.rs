//! The node files in `yaml/`, which are documentation: each is valid without a warning, and does what its text says.

use kit_spec::artifact::Format;
use qemu_tests::kitbuild::run;
use qemu_tests::{Boot, Guest, Kitbuild, or_skip};
use std::path::PathBuf;
use std::time::Duration;

/// Enough for a machine that does something else besides.
const BOOT: Duration = Duration::from_secs(180);

fn yaml(name: &str) -> PathBuf {
    qemu_tests::workspace().join("yaml").join(name)
}

/// Boots a file, and waits for lines of its console, in whatever order.
fn boots(kitbuild: &Kitbuild, name: &str, never: &[&str], lines: &[&str]) -> Guest {
    let built = kitbuild.build(&yaml(name), Format::KernelInitrd).unwrap_or_else(|error| panic!("{error}"));
    let boot = Boot { memory_mib: 512, ..Boot::default() };
    let mut guest = Guest::boot(&built, &boot).unwrap_or_else(|error| panic!("{error}"));
    never.iter().for_each(|text| guest.forbid(*text));
    guest.line("kit: ready", BOOT).unwrap_or_else(|error| panic!("{error}"));
    for line in lines {
        let seen = qemu_tests::guest::until(BOOT, || guest.text().contains(line).then_some(()));
        assert!(seen.is_some(), "no `{line}`; the console:\n{}", guest.text());
    }
    guest
}

#[test]
fn every_example_is_valid_without_a_warning() {
    let kitbuild = or_skip!(Kitbuild::staged());
    let mut count = 0;
    for entry in std::fs::read_dir(yaml("")).expect("the examples") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|end| end == "yml") {
            let mut check = kitbuild.command(["check"]);
            check.arg(&path);
            let output = run(check).unwrap_or_else(|error| panic!("{error}"));
            assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
            count += 1;
        }
    }
    assert!(count >= 4, "{count} examples");
}

#[test]
fn the_example_of_onboot_prepares_limits_goes_on_and_says_good_bye() {
    let kitbuild = or_skip!(Kitbuild::staged());
    let guest = boots(
        &kitbuild,
        "onboot.yml",
        &["kit: prepare failed", "kit: limits failed"],
        &[
            "prepare: prepared",
            "limits: limited may open 256 files and sees 1 interface",
            "kit: hopeless failed",
            "greeter: onboot left hello",
        ],
    );
    guest.press_power().unwrap_or_else(|error| panic!("{error}"));
    assert!(guest.text().contains("farewell: hello and good-bye"), "{}", guest.text());
    guest.nothing_forbidden().unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_example_of_volumes_shows_what_each_holds() {
    let kitbuild = or_skip!(Kitbuild::staged());
    let guest = boots(
        &kitbuild,
        "volumes.yml",
        &["kit: fill failed", "kit: reader failed", "damaged:"],
        &[
            "reader: the word is first",
            "reader: the tool is gone",
            "reader: the seed is whole",
            "reader: an image of 3 blobs, 1 name",
        ],
    );
    guest.nothing_forbidden().unwrap_or_else(|error| panic!("{error}"));
}
