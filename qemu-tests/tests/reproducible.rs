//! The same input gives the same bytes, whatever surrounds the build.

use kit_spec::artifact::Format;
use qemu_tests::kitbuild::{run, tool};
use qemu_tests::{Kitbuild, or_skip};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What surrounds a build.
struct Surroundings<'a> {
    root: &'a Path,
    name: &'a str,
    cwd: PathBuf,
    node: PathBuf,
    umask: &'a str,
    processors: &'a str,
    env: &'a [(&'a str, &'a str)],
}

impl Surroundings<'_> {
    /// Builds all formats, with a cache of its own, so that nothing derived is shared; the directory of output.
    fn build(&self, kitbuild: &Kitbuild, pristine: &Path) -> PathBuf {
        let at = |name: &str| self.root.join(format!("{}-{name}", self.name));
        let (out, cache, temporary) = (at("out"), at("cache"), at("tmp"));
        fs::create_dir(&temporary).expect("a directory");
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(pristine).arg(&cache);
        run(copy).unwrap_or_else(|error| panic!("{error}"));
        let formats = Format::ALL.map(Format::name).join(",");
        let script = format!("umask {}; exec taskset --cpu-list {} \"$@\"", self.umask, self.processors);
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).arg(kitbuild.program());
        command.args(["build", "--quiet", "--locked", "--offline", "--format", &formats]);
        command.arg("--cache").arg(&cache).arg("--lock").arg(self.root.join("lock"));
        command.arg("--out").arg(&out).arg(&self.node);
        command.current_dir(&self.cwd).env("TMPDIR", &temporary).envs(self.env.iter().copied());
        for name in ["KIT_PROGRAMS", "KIT_IMAGES", "KIT_CACHE", "SOURCE_DATE_EPOCH"] {
            command.env_remove(name);
        }
        run(command).unwrap_or_else(|error| panic!("{error}"));
        let left: Vec<_> =
            fs::read_dir(&temporary).expect("a directory").flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        out
    }
}

fn files(dir: &Path) -> BTreeMap<String, PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory").flatten();
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect()
}

#[test]
fn two_builds_in_different_surroundings_give_the_same_bytes() {
    let kitbuild = or_skip!(Kitbuild::staged());
    or_skip!(tool("taskset"));
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path();
    let yaml = qemu_tests::workspace().join("yaml");
    let pristine = root.join("cache");
    let mut lock = kitbuild.command(["lock", "--quiet", "--cache"]);
    lock.arg(&pristine).arg("--lock").arg(root.join("lock")).arg(yaml.join("node.yml"));
    run(lock).unwrap_or_else(|error| panic!("{error}"));

    let all = format!("0-{}", std::thread::available_parallelism().map_or(1, usize::from) - 1);
    let one = Surroundings {
        root,
        name: "one",
        cwd: PathBuf::from("/"),
        node: yaml.join("node.yml"),
        umask: "022",
        processors: "0",
        env: &[("LC_ALL", "C"), ("TZ", "UTC"), ("HOME", "/nonexistent")],
    };
    let other = Surroundings {
        name: "other",
        cwd: yaml.clone(),
        node: PathBuf::from("node.yml"),
        umask: "077",
        processors: &all,
        env: &[
            ("LC_ALL", "tr_TR.UTF-8"),
            ("LANG", "de_DE.UTF-8"),
            ("TZ", "Pacific/Auckland"),
            ("USER", "somebody"),
        ],
        ..one
    };
    let (first, second) =
        (files(&one.build(&kitbuild, &pristine)), files(&other.build(&kitbuild, &pristine)));
    assert_eq!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>());
    assert!(first.len() >= 10, "few files: {:?}", first.keys());
    for (name, path) in &first {
        let (a, b) = (fs::read(path).expect("a file"), fs::read(&second[name]).expect("a file"));
        let differs = a.iter().zip(&b).position(|(a, b)| a != b);
        assert!(
            differs.is_none() && a.len() == b.len(),
            "{name} differs at {differs:?}, of {} and {} bytes",
            a.len(),
            b.len()
        );
    }
}
