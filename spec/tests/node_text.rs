//! What a reader sees: whole messages, word for word.

use kit_spec::node::{Node, Source};

/// The errors of a file, and its warnings, as they are written out.
fn told(text: &str) -> String {
    told_of(&[Source { name: "node.yml", text }])
}

fn told_of(sources: &[Source<'_>]) -> String {
    match Node::parse(sources) {
        Ok((_, warnings)) => warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n"),
        Err(errors) => errors.to_string(),
    }
}

macro_rules! texts {
    ($($name:ident: $text:expr => $told:expr;)*) => {
        $(#[test]
        fn $name() {
            let told = told($text);
            assert_eq!(told.trim_end(), $told.trim_matches('\n'), "\n{told}");
        })*
    };
}

texts! {
    an_unknown_key_is_shown_with_the_one_that_was_meant: "services:\n  - name: web\n    image: nginx\n    capabilites:\n      - CAP_CHOWN\n" => r#"
error: services[0].capabilites: unknown key `capabilites`
 --> node.yml:4:5
  |
4 |     capabilites:
  |     ^^^^^^^^^^^
  |
  = help: did you mean `capabilities`?
"#;

    a_word_of_another_tool_is_translated: "services:\n  - name: web\n    image: nginx\n    environment: [A=b]\n" => r#"
error: services[0].environment: unknown key `environment`
 --> node.yml:4:5
  |
4 |     environment: [A=b]
  |     ^^^^^^^^^^^
  |
  = help: did you mean `env`?
"#;

    a_section_that_is_not_known: "service:\n  - name: web\n" => r#"
error: service: unknown key `service`
 --> node.yml:1:1
  |
1 | service:
  | ^^^^^^^
  |
  = help: did you mean `services`?
"#;

    a_number_where_a_text_is_wanted: "files:\n  - path: etc/motd\n    contents: hello\n    mode: 0644\n" => r#"
error: files[0].mode: expected a text, found the number `0644`
 --> node.yml:4:11
  |
4 |     mode: 0644
  |           ^^^^
  |
  = help: put it in quotes: "0644"
"#;

    a_word_where_a_list_is_wanted: "services:\n  - name: web\n    image: nginx\n    command: /bin/sh\n" => r#"
error: services[0].command: expected a list, found the text `/bin/sh`
 --> node.yml:4:14
  |
4 |     command: /bin/sh
  |              ^^^^^^^
  |
  = help: a list of one is written [/bin/sh]
"#;

    a_key_without_a_value: "services:\n  - name: web\n    image: nginx\n    binds:\n    env: [A=b]\n" => r#"
error: services[0].binds: expected a list, found nothing
 --> node.yml:4:5
  |
4 |     binds:
  |     ^^^^^
  |
  = help: leave the key out, or write [] for an empty list
"#;

    a_missing_key: "onboot:\n  - image: nginx\n    command: [sh]\n" => r#"
error: onboot[0]: the key `name` is missing
 --> node.yml:2:5
  |
2 |   - image: nginx
  |     ^^^^^
  |
  = help: add `name: ..`
"#;

    a_key_twice: "kernel:\n  image: a\n  cmdline: b\n  image: c\n" => r#"
error: kernel.image: the key `image` is written twice
 --> node.yml:4:3
  |
4 |   image: c
  |   ^^^^^
  |
  = note: the first one: node.yml:2:3
  = help: remove one of the two
"#;

    a_capability_without_its_prefix: "services:\n  - name: web\n    image: nginx\n    capabilities: [CAP_CHOWN, net_admin]\n" => r#"
error: services[0].capabilities[1]: unknown capability `net_admin`
 --> node.yml:4:31
  |
4 |     capabilities: [CAP_CHOWN, net_admin]
  |                               ^^^^^^^^^
  |
  = help: write `CAP_NET_ADMIN`
"#;

    a_volume_that_is_not_declared: "volumes:\n  - name: data\nservices:\n  - name: web\n    image: nginx\n    binds:\n      - dta:/var/lib/web\n" => r#"
error: services[0].binds[0]: the source `dta` is neither an absolute path nor a volume
 --> node.yml:7:9
  |
7 |       - dta:/var/lib/web
  |         ^^^^^^^^^^^^^^^^
  |
  = help: did you mean `data`?
"#;

    a_volume_that_is_read_only: "volumes:\n  - name: seed\n    image: alpine\n    readonly: true\nservices:\n  - name: web\n    image: nginx\n    binds: [\"seed:/srv\"]\n" => r#"
error: services[0].binds[0]: the volume `seed` is read-only, and this could write to it
 --> node.yml:8:13
  |
8 |     binds: ["seed:/srv"]
  |             ^^^^^^^^^^^
  |
  = note: the volume: node.yml:2:11
  = help: add the option `ro`
"#;

    services_that_wait_for_each_other: "services:\n  - {name: a, image: a, after: [c]}\n  - {name: b, image: b, after: [a]}\n  - {name: c, image: c, after: [b]}\n" => r#"
error: services[1].after[0]: services wait for each other: a -> c -> b -> a
 --> node.yml:3:33
  |
3 |   - {name: b, image: b, after: [a]}
  |                                 ^
  |
  = help: remove one of these from an `after`
"#;

    a_service_that_is_not_there: "services:\n  - {name: database, image: a}\n  - {name: web, image: b, after: [databse]}\n" => r#"
error: services[1].after[0]: `databse` is neither a service nor an onboot container
 --> node.yml:3:35
  |
3 |   - {name: web, image: b, after: [databse]}
  |                                   ^^^^^^^
  |
  = help: did you mean `database`?
"#;

    a_duration_without_a_unit: "services:\n  - name: web\n    image: nginx\n    stop: {grace: \"30\"}\n" => r#"
error: services[0].stop.grace: the duration `30` has no unit
 --> node.yml:4:19
  |
4 |     stop: {grace: "30"}
  |                   ^^^^
  |
  = help: write `30s` for seconds
"#;

    a_package_with_an_architecture: "init:\n  - kit/init\n  - deb:nginx:amd64\n" => r#"
error: init[1]: the package `nginx:amd64` names an architecture
 --> node.yml:3:5
  |
3 |   - deb:nginx:amd64
  |     ^^^^^^^^^^^^^^^
  |
  = help: write `nginx`: the architecture is the one that is built for
"#;

    a_name_in_capitals: "kernel:\n  image: linuxkit/Kernel:6.12\n" => r#"
error: kernel.image: `Kernel` is not a part of an image's name: lower-case letters and digits, with `.`, `_`, `__` or `-` between
 --> node.yml:2:10
  |
2 |   image: linuxkit/Kernel:6.12
  |          ^^^^^^^^^^^^^^^^^^^^
  |
  = help: write `kernel`
"#;

    a_key_of_another_section: "onboot:\n  - name: net\n    image: kit/net\n    restart: always\n" => r#"
error: onboot[0].restart: `restart` is a key of services only
 --> node.yml:4:5
  |
4 |     restart: always
  |     ^^^^^^^
  |
  = help: remove it, or move the container to `services`
"#;

    a_file_that_is_two_things: "files:\n  - path: etc/localtime\n    symlink: /usr/share/zoneinfo/UTC\n    source: localtime\n" => r#"
error: files[0].source: `symlink` and `source` exclude each other
 --> node.yml:4:5
  |
4 |     source: localtime
  |     ^^^^^^
  |
  = help: keep one of `directory`, `symlink`, `contents`, `source` and `metadata`
"#;

    text_that_is_not_yaml: "services:\n  - name: web\n    image: @nginx\n" => r#"
error: this is not YAML: unexpected character: `@'
 --> node.yml:3:12
  |
3 |     image: @nginx
  |            ^
  |
  = help: a text that begins with `@` must be in quotes
"#;

    tabs_for_indentation: "services:\n\t- name: web\n" => r#"
error: this is not YAML: tabs disallowed within this context (block indentation)
 --> node.yml:2:2
  |
2 |     - name: web
  |     ^
  |
  = help: indent with blanks
"#;

    an_unknown_signal_and_an_unknown_user: "services:\n  - name: web\n    image: nginx\n    uid: wbe\n    stop: {signal: SIGTREM}\n" => r#"
error: services[0].uid: `wbe` is not the name of a container of this node
 --> node.yml:4:10
  |
4 |     uid: wbe
  |          ^^^
  |
  = help: did you mean `web`?

error: services[0].stop.signal: unknown signal `SIGTREM`
 --> node.yml:5:20
  |
5 |     stop: {signal: SIGTREM}
  |                    ^^^^^^^
  |
  = help: did you mean `SIGTERM`?
"#;

    letters_that_are_wide: "onboot:\n  - name: \"größe 大\"\n    image: a\n" => r#"
error: onboot[0].name: `größe 大` is not the name of a container
 --> node.yml:2:11
  |
2 |   - name: "größe 大"
  |           ^^^^^^^^^^
  |
  = help: letters, digits, `.`, `_` and `-`, a letter or digit first, at most 76
"#;

    trust_is_a_warning: "kernel: {image: a}\ntrust:\n  org: [linuxkit]\n" => r#"
warning: trust: `trust` is not enforced: no signature is checked
 --> node.yml:2:1
  |
2 | trust:
  | ^^^^^
  |
  = help: pin images by digest (`image: NAME@sha256:..`), or build with a lock file
"#;

    things_of_no_effect_are_warnings: "services:\n  - name: web\n    image: nginx\n    binds: [\"/a:/a:roo\"]\n    binds.add: [\"/b:/b\"]\n    env: [A]\n    resources: {memory: {kernel: 5}}\n" => r#"
warning: services[0].binds[0]: `roo` means nothing to a bind mount
 --> node.yml:4:13
  |
4 |     binds: ["/a:/a:roo"]
  |             ^^^^^^^^^^^
  |
  = help: did you mean `ro`?

warning: services[0].binds.add: `binds.add` has no effect beside `binds`
 --> node.yml:5:5
  |
5 |     binds.add: ["/b:/b"]
  |     ^^^^^^^^^
  |
  = help: move its items there, or remove one of the two

warning: services[0].env[0]: `A` does not set a variable
 --> node.yml:6:11
  |
6 |     env: [A]
  |           ^
  |
  = help: write `NAME=value`, or `NAME=` for an empty value

warning: services[0].resources.memory.kernel: `kernel` has no effect: cgroup v2 has nothing like it
 --> node.yml:7:26
  |
7 |     resources: {memory: {kernel: 5}}
  |                          ^^^^^^
  |
  = help: remove it
"#;
}

#[test]
fn two_files_are_told_apart_and_point_at_each_other() {
    let sources = [
        Source { name: "base.yml", text: "services:\n  - name: web\n    image: nginx\n" },
        Source { name: "more.yml", text: "services:\n  - name: web\n    image: nginx\n    cwd: srv\n" },
    ];
    let told = told_of(&sources);
    assert_eq!(
        told.trim_end(),
        r#"
error: services[0].name: the service `web` is declared twice
 --> more.yml:2:11
  |
2 |   - name: web
  |           ^^^
  |
  = note: the first one: base.yml:2:11
  = help: give one of the two another name

error: services[0].cwd: the working directory `srv` is not an absolute path
 --> more.yml:4:10
  |
4 |     cwd: srv
  |          ^^^
  |
  = help: write `/srv`
"#
        .trim_matches('\n'),
        "\n{told}"
    );
}

#[test]
fn colour_is_for_who_asks() {
    let errors = Node::parse(&[Source { name: "node.yml", text: "a: b" }]).unwrap_err();
    assert!(!errors.to_string().contains('\u{1b}'));
    assert!(!errors.render(false).contains('\u{1b}'));
    assert!(errors.render(true).contains('\u{1b}'));
}

#[test]
fn contents_are_never_quoted() {
    const SECRET: &str = "hunter2";
    for text in [
        "files:\n  - path: a\n    contents: hunter2\n    contents: hunter2\n",
        "files:\n  - path: a\n    contents: [hunter2]\n",
        "files:\n  - path: a\n    contents: {hunter2: 1}\n",
        "files:\n  - {path: a, contents: hunter2, mod: '0600'}\n",
        "files:\n  - {path: ../a, contents: 'hunter2', mode: 0600}\n",
        "files:\n  - path: a\n    content: hunter2\n",
        "files:\n  - path: a\n    data: hunter2\n    mode: 9\n",
        "files:\n  - path: a\n    contents: |\n      hunter2\n     bad: hunter2\n",
        "files:\n  - path: a\n    contents: \"hunter2\n",
        "files:\n  - path: a\n    contents: \"hunter2\\x\"\n",
        "files:\n  - path: a\n    contents: *hunter2\n",
        "files:\n  - path: a\n    contents: a: hunter2\n",
        "files:\n  - path: a\n    contents: @hunter2\n",
        "files:\n  - path: a\n    contents: &x hunter2\n    contents: *x\n",
        "files: &f\n  - path: a\n    contents: hunter2\n    contents: 5\nservices: *f\n",
        "files:\n  - path: a\n    contents: \"hunter2\"\n    source: b\n",
        "files:\n  - path: a\n    contents: \"hunter2\\0\"\n",
        "files:\n  - path: a\n    contents: \"@pkg:hunter2\"\n",
        "files:\n  - <<: {contents: hunter2, x: hunter2}\n    path: ..\n",
        "files:\n  path: a\n  contents: hunter2\n",
        "services: [\nfiles:\n  - path: a\n    contents: hunter2 ]\n",
    ] {
        let told = told(text);
        assert!(!told.is_empty(), "{text}: nothing was wrong");
        assert!(!told.contains(SECRET), "{text}:\n{told}");
    }
    let (node, _) =
        Node::parse(&[Source { name: "a", text: "files: [{path: a, contents: hunter2}]" }]).unwrap();
    assert!(!format!("{node:?}").contains(SECRET));
}

#[test]
fn a_file_system_that_is_nearly_known_is_warned_of_and_a_strange_one_is_not() {
    let mount = |kind: &str| {
        told(&format!(
            "services: [{{name: a, image: a, mounts: [{{type: {kind}, source: x, destination: /x}}]}}]"
        ))
    };
    assert!(mount("tmpsf").contains("`tmpsf` is not a file system of Linux"));
    assert!(mount("tmpsf").contains("did you mean `tmpfs`?"));
    assert_eq!(mount("fuse.sshfs"), "");
    assert_eq!(mount("reiser5000"), "");
}
