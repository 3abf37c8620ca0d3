//! Several files make one node, and a node makes a file again.

use kit_spec::node::settings::Id;
use kit_spec::node::{Diagnostics, FileKind, Node, Problem, Source, VolumeContent, Warning};

const EVERY_KEY: &str = include_str!("every-key.yml");

fn parse(texts: &[&str]) -> Result<(Node, Vec<Warning>), Diagnostics> {
    let names = ["a.yml", "b.yml", "c.yml"];
    let sources: Vec<Source<'_>> =
        names.iter().zip(texts).map(|(name, text)| Source { name, text }).collect();
    Node::parse(&sources)
}

fn good(texts: &[&str]) -> Node {
    parse(texts).unwrap_or_else(|errors| panic!("{errors}")).0
}

fn told(texts: &[&str]) -> Vec<String> {
    parse(texts).unwrap_err().errors().iter().map(Problem::to_string).collect()
}

#[test]
fn lists_are_appended_in_the_order_of_the_files() {
    let node = good(&[
        "init: [a]\nonboot: [{name: x, image: x}]\nonshutdown: [{name: s, image: s}]\nfiles: [{path: f, contents: ''}]",
        "init: [b]\nonboot: [{name: x, image: y}]\nservices: [{name: w, image: w}]\nfiles: [{path: g, contents: ''}]",
        "init: [c]\nservices: [{name: v, image: v, after: [w]}]\nvolumes: [{name: d}]",
    ]);
    let init: Vec<String> = node.init.iter().map(ToString::to_string).collect();
    assert_eq!(init, ["a", "b", "c"].map(|name| format!("docker.io/library/{name}:latest")));
    let paths: Vec<String> = node.images().into_iter().map(|(path, _)| path).collect();
    let containers = ["onboot[0].image", "onboot[1].image", "onshutdown[0].image", "services[0].image"];
    assert_eq!(paths[3..7], containers);
    assert_eq!(node.services[1].after, ["w"]);
    assert_eq!(node.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["f", "g"]);
    assert_eq!(node.ids().get("x"), Some(101));
}

#[test]
fn of_the_kernels_keys_the_last_one_that_says_something_counts() {
    let kernel = good(&[
        "kernel: {image: a, cmdline: one, binary: vmlinuz, ucode: u.cpio}",
        "kernel: {image: '', cmdline: two, tar: none}",
        "kernel: {cmdline: '', ucode: ''}",
    ])
    .kernel
    .unwrap();
    assert_eq!(kernel.image.to_string(), "docker.io/library/a:latest");
    assert_eq!((kernel.cmdline.as_str(), kernel.binary.as_str()), ("two", "vmlinuz"));
    assert_eq!((kernel.tar, kernel.ucode), (None, None), "an empty tar or ucode says none");
    let kernel = good(&["kernel: {image: a}"]).kernel.unwrap();
    assert_eq!((kernel.binary.as_str(), kernel.tar.as_deref()), ("kernel", Some("kernel.tar")));
}

#[test]
fn a_kernel_without_an_image_is_none_and_warned_of() {
    let (node, warnings) = parse(&["kernel: {cmdline: one}"]).unwrap();
    assert!(node.kernel.is_none());
    assert!(warnings[0].0.message.contains("no image"), "{warnings:?}");
}

#[test]
fn volumes_of_every_file_are_known_to_every_file() {
    let node = good(&[
        "volumes: [{name: a, image: x}]\nservices: [{name: w, image: w, binds: ['b:/b']}]",
        "volumes: [{name: b}]\nonboot: [{name: o, image: o, binds: ['a:/a', 'b:/b']}]",
    ]);
    assert_eq!(node.volumes.len(), 2);
    assert!(matches!(node.volume("a").unwrap().content, VolumeContent::Filesystem(_)));
    assert_eq!(node.volume("b").unwrap().merged_dir(), "/containers/volumes/b/merged");
}

#[test]
fn a_name_in_two_files_is_an_error_in_the_second() {
    let service = "services: [{name: w, image: w}]\nvolumes: [{name: v}]";
    assert_eq!(
        told(&[service, service]),
        [
            "b.yml:1:19: services[0].name: the service `w` is declared twice",
            "b.yml:2:18: volumes[0].name: the volume `v` is declared twice",
        ]
    );
}

#[test]
fn a_file_that_cannot_be_read_does_not_hide_the_errors_of_another_nor_make_some_up() {
    let told = told(&[
        "services:\n  - {name: w, image: w, binds: ['v:/v'], uid: other, after: [other], cwd: x}\n",
        "volumes: [{name: v}\n",
    ]);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("a.yml:2:75: services[0].cwd:"), "{told:?}");
    assert!(told[1].contains("b.yml:1:10: this is not YAML: unclosed bracket"), "{told:?}");
}

#[test]
fn what_waits_for_an_onboot_container_waits_for_nothing() {
    let text = "onboot: [{name: net, image: a}]\nservices:\n  - {name: net, image: a, after: [net]}\n  \
        - {name: w, image: a, after: [net]}\n";
    let node = good(&[text]);
    assert!(node.services[0].after.is_empty(), "of its own name it means the onboot container");
    assert_eq!(node.services[1].after, ["net"], "a service of the name comes before an onboot container");
}

#[test]
fn files_have_defaults_and_owners() {
    let text = "onboot: [{name: o, image: o}]\nfiles:\n  - {path: /a//./b, contents: '', uid: o, gid: 5}\n  \
        - {path: d/, directory: true}\n  - {path: l, symlink: ../x, uid: root}\n  - {path: s, source: ~/s, mode: '4755'}\n";
    let node = good(&[text]);
    let of = |i: usize| (node.files[i].path.as_str(), node.files[i].mode);
    assert_eq!([of(0), of(1), of(2), of(3)], [("a/b", 0o600), ("d", 0o700), ("l", 0o600), ("s", 0o4755)]);
    assert_eq!((&node.files[0].uid, &node.files[0].gid), (&Id::Container("o".to_owned()), &Id::Number(5)));
    assert_eq!(node.files[2].uid, Id::ROOT);
    assert_eq!(node.files[1].kind, FileKind::DIRECTORY);
}

#[test]
fn a_node_written_as_yaml_or_json_reads_back_as_it_was() {
    let node = good(&[EVERY_KEY]);
    assert_eq!(good(&[&node.to_yaml()]), node, "{}", node.to_yaml());
    assert_eq!(good(&[&node.to_json()]), node);
    assert_eq!(good(&[&node.to_yaml()]).to_yaml(), node.to_yaml());
    assert_eq!(good(&["{}"]), Node::default());
    assert_eq!(good(&[&Node::default().to_yaml()]), Node::default());
    let oracle: serde_json::Value = serde_saphyr::from_str(&node.to_yaml()).unwrap();
    assert_eq!(oracle, serde_json::to_value(&node).unwrap());
}

#[test]
fn a_node_is_written_with_names_first_and_in_full() {
    let node = good(&[
        "services:\n  - image: nginx\n    name: web\n    restart: always\n    env: ['A= b', C=d]\n    \
        after: [log]\n    capabilities: []\n  - {name: log, image: kit/log, runtime: {mkdir: [/a]}}\n",
    ]);
    assert_eq!(
        node.to_yaml(),
        "services:\n  - name: web\n    image: docker.io/library/nginx:latest\n    after:\n      - log\n    \
         capabilities: []\n    env:\n      - \"A= b\"\n      - C=d\n    restart:\n      backoff: \"1s\"\n      \
         maxBackoff: \"1m\"\n      policy: always\n  - name: log\n    image: kit/log\n    runtime:\n      mkdir:\n        \
         - /a\n"
    );
}
