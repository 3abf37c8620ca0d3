//! Images from a registry: pulled by tag, pinned, built without network; and every way in which bytes can be wrong is an
//! error that names the digest or the entry, and leaves no output.

mod image;
mod made;
mod server;

use image::Layout;
use qemu_tests::kitbuild::{run, tool};
use qemu_tests::{Kitbuild, Missing, or_skip};
use server::Registry;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A registry with an image in it, and a place to build.
struct Scene {
    dir: tempfile::TempDir,
    kitbuild: Kitbuild,
    registry: Registry,
    image: Layout,
}

impl Scene {
    fn new(image: impl FnOnce(&Path) -> Layout) -> Result<Scene, Missing> {
        let kitbuild = Kitbuild::staged()?;
        let (docker_registry, skopeo) = (tool("docker-registry")?, tool("skopeo")?);
        let dir = tempfile::tempdir().expect("a directory");
        let image = image(&dir.path().join("layout"));
        let registry = Registry::start(&docker_registry, &dir.path().join("registry"));
        registry.push(&skopeo, &image, "team/hello:1");
        let text = format!("services:\n  - name: hello\n    image: {}/team/hello:1\n", registry.host());
        fs::write(dir.path().join("node.yml"), text).expect("a node file");
        Ok(Scene { dir, kitbuild, registry, image })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A kitbuild command with this scene's cache and lock.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.kitbuild.command(words);
        command.arg("--cache").arg(self.path("cache")).arg("--lock").arg(self.path("lock"));
        command
    }

    fn lock(&self) {
        let mut command = self.command(&["lock"]);
        command.arg(self.path("node.yml"));
        run(command).unwrap_or_else(|error| panic!("{error}"));
    }

    fn build(&self, options: &[&str], out: &str) -> Output {
        let mut command = self.command(&["build", "--format", "tar"]);
        command.args(options).arg("--out").arg(self.path(out)).arg(self.path("node.yml"));
        command.output().expect("kitbuild runs")
    }

    /// The file of a blob in the cache.
    fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("a digest");
        let path = self.path("cache/store/blobs/sha256").join(hex);
        assert!(path.is_file(), "{} is not in the store", path.display());
        path
    }

    /// A build that fails, names what is wrong, and leaves nothing: no output, and no layer in the cache.
    #[track_caller]
    fn assert_refused(&self, output: &Output, out: &str, named: &str) {
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("error: ") || said.contains("\nerror: "), "{said}");
        assert!(said.contains(named), "`{named}` is not named:\n{said}");
        let left: Vec<_> =
            fs::read_dir(self.path(out)).map(|entries| entries.flatten().collect()).unwrap_or_default();
        assert!(left.is_empty(), "left in the directory of output: {left:?}");
        let left = image::files_below(&self.path("cache/layers"));
        assert!(left.is_empty(), "left in the cache: {left:?}");
    }

    /// What was wrong is right again: so is the next build, and nothing of the wrong bytes is in its way.
    #[track_caller]
    fn assert_mended(&self, options: &[&str]) {
        let output = self.build(options, "mended");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let tar = fs::read(self.path("mended/node.tar")).expect("a tar");
        let noise = noise();
        assert!(tar.windows(noise.len()).any(|part| part == noise), "the image is not in the output");
        let ingest = image::files_below(&self.path("cache/store/ingest"));
        assert!(ingest.is_empty(), "left in the store: {ingest:?}");
    }
}

fn noise() -> Vec<u8> {
    (0..200_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

fn good(dir: &Path) -> Layout {
    Layout::write(dir, &[image::layer(&[("bin/hello", b"#!/bin/sh\n"), ("noise", &noise())])])
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("a blob");
    bytes[at] ^= 1;
    image::overwrite(path, &bytes);
}

#[test]
fn an_image_is_pulled_by_tag_pinned_and_built_without_the_registry() {
    let mut scene = or_skip!(Scene::new(good));
    scene.lock();
    let pins = fs::read_to_string(scene.path("lock")).expect("a lock");
    assert!(pins.contains(&scene.image.manifest), "{} is not pinned:\n{pins}", scene.image.manifest);
    scene.registry.stop();
    let output = scene.build(&["--locked", "--offline"], "out");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(scene.path("out/node.tar").is_file());
    assert!(scene.path("out/node.tar.artifact.json").is_file());
}

#[test]
fn a_tag_that_moves_does_not_move_what_is_locked() {
    let scene = or_skip!(Scene::new(good));
    scene.lock();
    assert!(scene.build(&["--locked"], "before").status.success());
    let moved = Layout::write(&scene.path("moved"), &[image::layer(&[("bin/hello", b"another\n")])]);
    scene.registry.push(&tool("skopeo").expect("it was there"), &moved, "team/hello:1");
    // A cache that has nothing: what is pinned is pulled by its digest.
    fs::remove_dir_all(scene.path("cache")).expect("a cache");
    let output = scene.build(&["--locked"], "after");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |out: &str| fs::read(scene.path(out).join("node.tar")).expect("a tar");
    assert!(read("before") == read("after"), "the locked build changed with the tag");
}

#[test]
fn what_is_not_locked_is_not_resolved() {
    let scene = or_skip!(Scene::new(good));
    fs::write(scene.path("lock"), "").expect("a lock");
    fs::remove_file(scene.path("lock")).expect("a lock");
    let output = scene.build(&["--locked"], "out");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let output = scene.build(&["--offline"], "out");
    scene.assert_refused(&output, "out", "team/hello:1");
}

#[test]
fn a_flipped_byte_in_a_cached_blob_is_refused() {
    let scene = or_skip!(Scene::new(good));
    scene.lock();
    let layer = scene.image.layers[0].clone();
    flip(&scene.blob(&layer), 1000);
    let output = scene.build(&["--locked", "--offline"], "out");
    scene.assert_refused(&output, "out", &layer);
    flip(&scene.blob(&layer), 1000);
    scene.assert_mended(&["--locked", "--offline"]);
}

#[test]
fn a_blob_that_goes_bad_after_a_build_is_refused_though_its_layer_is_kept() {
    let scene = or_skip!(Scene::new(good));
    scene.lock();
    assert!(scene.build(&["--locked", "--offline"], "before").status.success());
    let layer = scene.image.layers[0].clone();
    flip(&scene.blob(&layer), 1000);
    let output = scene.build(&["--locked", "--offline"], "after");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&layer), "{layer} is not named:\n{said}");
    assert!(fs::read_dir(scene.path("after")).map_or(true, |mut entries| entries.next().is_none()));
}

#[test]
fn a_truncated_cached_blob_is_refused() {
    let scene = or_skip!(Scene::new(good));
    scene.lock();
    let layer = scene.image.layers[0].clone();
    let path = scene.blob(&layer);
    let bytes = fs::read(&path).expect("a blob");
    image::overwrite(&path, &bytes[..bytes.len() / 2]);
    let output = scene.build(&["--locked", "--offline"], "out");
    scene.assert_refused(&output, "out", &layer);
}

#[test]
fn damage_to_what_is_derived_never_reaches_the_output() {
    let scene = or_skip!(Scene::new(good));
    scene.lock();
    assert!(scene.build(&["--locked", "--offline"], "first").status.success());
    let good = fs::read(scene.path("first/node.tar")).expect("a tar");
    let derived = image::files_below(&scene.path("cache/layers"));
    assert!(!derived.is_empty(), "nothing is kept beside the blobs");
    for path in derived {
        let size = fs::metadata(&path).expect("a file").len() as usize;
        if size == 0 {
            continue;
        }
        let whole = fs::read(&path).expect("a file");
        flip(&path, size / 2);
        let output = scene.build(&["--locked", "--offline"], "second");
        if output.status.success() {
            let again = fs::read(scene.path("second/node.tar")).expect("a tar");
            assert!(again == good, "damage to {} is in the output", path.display());
            fs::remove_dir_all(scene.path("second")).expect("output");
        } else {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains("error: "), "{said}");
            assert!(fs::read_dir(scene.path("second")).map_or(true, |mut entries| entries.next().is_none()));
        }
        if path.exists() {
            image::overwrite(&path, &whole);
        }
    }
}

#[test]
fn a_registry_that_serves_other_bytes_is_refused() {
    let scene = or_skip!(Scene::new(good));
    let layer = scene.image.layers[0].clone();
    flip(&scene.registry.blob(&layer), 1000);
    let output = scene.build(&[], "out");
    scene.assert_refused(&output, "out", &layer);
    let hex = layer.strip_prefix("sha256:").expect("a digest");
    assert!(
        !scene.path("cache/store/blobs/sha256").join(hex).exists(),
        "the store keeps what is not {layer}"
    );
    flip(&scene.registry.blob(&layer), 1000);
    scene.assert_mended(&[]);
}

#[test]
fn a_registry_that_serves_too_little_is_refused() {
    let scene = or_skip!(Scene::new(good));
    let layer = scene.image.layers[0].clone();
    let path = scene.registry.blob(&layer);
    let bytes = fs::read(&path).expect("a blob");
    image::overwrite(&path, &bytes[..bytes.len() / 2]);
    let output = scene.build(&[], "out");
    scene.assert_refused(&output, "out", &layer);
    image::overwrite(&path, &bytes);
    scene.assert_mended(&[]);
}

#[test]
fn an_entry_that_leads_out_of_the_root_is_refused() {
    let scene = or_skip!(Scene::new(|dir| Layout::write(dir, &[image::layer(&[("../../x", b"out")])])));
    let output = scene.build(&[], "out");
    scene.assert_refused(&output, "out", "../../x");
    assert!(!scene.path("x").exists());
}
