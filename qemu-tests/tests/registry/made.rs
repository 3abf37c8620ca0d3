//! Images that kitbuild makes of recipes, judged by other tools; and images as the contents of volumes.

use crate::image::{Layout, digest, files_below, layer};
use crate::{Scene, good};
use qemu_tests::kitbuild::{run, tool};
use qemu_tests::or_skip;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A recipe without packages: nothing is fetched for it.
const RECIPE: &str = "\
name: hello
files:
- {path: /bin/hello, contents: \"#!/bin/sh\\n\", mode: \"4755\", uid: 7, gid: 8}
- {path: /etc/link, symlink: ../bin/hello}
dirs:
- {path: /srv, mode: \"1777\"}
config:
  entrypoint: [/bin/hello]
  env: [A=1]
  labels: {org.example.b: '2', org.example.a: '1', org.example.c: '3'}
  defaults: {capabilities: [CAP_CHOWN]}
";

fn recipe(scene: &Scene) -> String {
    let dir = scene.path("hello");
    fs::create_dir_all(&dir).expect("a directory");
    fs::write(dir.join("image.yml"), RECIPE).expect("a recipe");
    dir.to_str().expect("UTF-8").to_owned()
}

/// What a kitbuild command with a cache of that name says, as objects.
fn say(scene: &Scene, cache: &str, words: &[&str]) -> Vec<Value> {
    let mut command = scene.kitbuild.command(words);
    command.arg("--json").arg("--cache").arg(scene.path(cache));
    let output = run(command).unwrap_or_else(|error| panic!("{error}"));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn of_event<'a>(said: &'a [Value], event: &str) -> &'a Value {
    said.iter().find(|object| object["event"] == event).unwrap_or_else(|| panic!("no {event}: {said:?}"))
}

fn skopeo(words: &[&str]) -> Value {
    let mut command = Command::new(tool("skopeo").expect("it was there"));
    command.args(["--insecure-policy", "inspect"]).args(words);
    let output = run(command).unwrap_or_else(|error| panic!("{error}"));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn an_image_made_of_a_recipe_is_the_same_each_time_and_everybody_can_read_it() {
    let scene = or_skip!(Scene::new(good));
    let umoci = or_skip!(tool("umoci"));
    let dir = recipe(&scene);
    let (one, other) = (scene.path("one.tar"), scene.path("other.tar"));
    let [one, other] = [&one, &other].map(|path| path.to_str().expect("UTF-8"));
    let said = say(&scene, "one", &["image", "build", &dir, "--out", one]);
    say(&scene, "other", &["image", "build", &dir, "--out", other]);
    assert!(fs::read(one).expect("an archive") == fs::read(other).expect("an archive"));
    let archive = format!("oci-archive:{one}");
    let seen = skopeo(&[&archive]);
    assert_eq!(seen["Digest"], of_event(&said, "image")["digest"]);
    assert_eq!((&seen["Os"], &seen["Architecture"]), (&"linux".into(), &"amd64".into()));
    assert_eq!(seen["Labels"]["org.mobyproject.config"], r#"{"capabilities":["CAP_CHOWN"]}"#);
    let config = skopeo(&["--config", &archive]);
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/bin/hello"]));

    let layout = format!("{}:x", scene.path("layout-of-it").display());
    let mut copy = Command::new(tool("skopeo").expect("it was there"));
    copy.args(["--insecure-policy", "copy", "--quiet", &archive, &format!("oci:{layout}")]);
    run(copy).unwrap_or_else(|error| panic!("{error}"));
    let bundle = scene.path("bundle");
    let mut unpack = Command::new(umoci);
    unpack.args(["unpack", "--rootless", "--image", &layout]).arg(&bundle);
    run(unpack).unwrap_or_else(|error| panic!("{error}"));
    let root = bundle.join("rootfs");
    assert_eq!(fs::read_to_string(root.join("bin/hello")).expect("a file"), "#!/bin/sh\n");
    assert_eq!(fs::read_link(root.join("etc/link")).expect("a link"), Path::new("../bin/hello"));
    assert!(root.join("srv").is_dir());
}

#[test]
fn an_image_made_of_a_recipe_is_pushed_pulled_and_removed() {
    let scene = or_skip!(Scene::new(good));
    let dir = recipe(&scene);
    let made = say(&scene, "cache", &["image", "build", &dir]);
    let digest = of_event(&made, "image")["digest"].clone();
    let name = format!("{}/team/made:1", scene.registry.host());
    let pushed = say(&scene, "cache", &["image", "push", "hello", &name]);
    assert_eq!(of_event(&pushed, "pushed")["digest"], digest);
    assert_eq!(skopeo(&["--tls-verify=false", &format!("docker://{name}")])["Digest"], digest);

    let pulled = say(&scene, "elsewhere", &["cache", "pull", &name]);
    assert_eq!(of_event(&pulled, "pulled")["digest"], digest);
    let listed = say(&scene, "elsewhere", &["cache", "ls"]);
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((&listed[0]["name"], &listed[0]["digest"]), (&name.as_str().into(), &digest));
    assert_eq!(listed[0]["platforms"], serde_json::json!(["linux/amd64"]));
    assert!(listed[0]["size"].as_u64().is_some_and(|size| size > 500), "{listed:?}");
    say(&scene, "elsewhere", &["cache", "rm", &name]);
    assert!(say(&scene, "elsewhere", &["cache", "ls"]).is_empty());
    let left = files_below(&scene.path("elsewhere/store/blobs"));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_volume_holds_an_image_of_a_registry_bit_for_bit() {
    let scene = or_skip!(Scene::new(good));
    let text = format!(
        "volumes:\n  - name: img\n    image: {}/team/hello:1\n    format: oci\n    platforms: [linux/amd64]\n",
        scene.registry.host()
    );
    fs::write(scene.path("node.yml"), text).expect("a node file");
    scene.lock();
    let output = scene.build(&["--locked", "--offline"], "out");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut unpack = Command::new("tar");
    unpack.arg("-xf").arg(scene.path("out/node.tar")).arg("-C").arg(scene.path("out"));
    run(unpack).unwrap_or_else(|error| panic!("{error}"));
    let volume = scene.path("out/containers/volumes/img/lower");
    let blobs = files_below(&volume.join("blobs/sha256"));
    let original = files_below(&scene.image.dir.join("blobs/sha256"));
    assert_eq!(blobs.len(), original.len());
    for (blob, original) in blobs.iter().zip(&original) {
        let bytes = fs::read(blob).expect("a blob");
        assert!(bytes == fs::read(original).expect("a blob"), "{}", blob.display());
        assert!(digest(&bytes).ends_with(blob.file_name().and_then(|name| name.to_str()).expect("a digest")));
    }
    let reference = format!("oci:{}:{}/team/hello:1", volume.display(), scene.registry.host());
    assert_eq!(skopeo(&[&reference])["Digest"], scene.image.manifest);
}

#[test]
fn a_volume_s_damaged_blob_and_missing_platform_are_refused() {
    let scene = or_skip!(Scene::new(good));
    let node = |platform: &str| {
        let text = format!(
            "volumes:\n  - name: img\n    image: {}/team/hello:1\n    format: oci\n    platforms: [{platform}]\n",
            scene.registry.host()
        );
        fs::write(scene.path("node.yml"), text).expect("a node file");
    };
    node("linux/arm64");
    let output = scene.build(&[], "out");
    scene.assert_refused(&output, "out", "the only image is for linux/amd64 (want linux/arm64)");
    node("linux/amd64");
    scene.lock();
    let layer = scene.image.layers[0].clone();
    crate::flip(&scene.blob(&layer), 1000);
    let output = scene.build(&["--locked", "--offline"], "out");
    scene.assert_refused(&output, "out", &layer);
}

#[test]
fn a_volume_holds_an_image_of_this_machine() {
    let scene = or_skip!(Scene::new(good));
    let image = Layout::write(&scene.path("local"), &[layer(&[("x", b"y")])]);
    fs::write(
        scene.path("node.yml"),
        "volumes:\n  - name: img\n    image: oci:local\n    format: oci\n    readonly: true\n",
    )
    .expect("a node file");
    let output = scene.build(&["--offline"], "out");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut list = Command::new("tar");
    list.arg("-tf").arg(scene.path("out/node.tar"));
    let listed = run(list).unwrap_or_else(|error| panic!("{error}")).stdout;
    let listed = String::from_utf8(listed).expect("UTF-8");
    let hex = image.manifest.strip_prefix("sha256:").expect("a digest");
    assert!(listed.contains(&format!("containers/volumes/img/lower/blobs/sha256/{hex}\n")), "{listed}");
    assert!(listed.contains("containers/volumes/img/lower/oci-layout\n"), "{listed}");
}
