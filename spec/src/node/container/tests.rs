use super::{CapabilitySets, Container, ImageDefaults, SettleError, User};
use crate::node::settings::{Mount, Namespace};
use crate::node::{ContainerSettings, IdMap, Node, Source};

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The container that an image, a label and the keys of a service come to.
fn settled(image: &ImageDefaults, label: &str, keys: &str) -> Result<Container, SettleError> {
    let text = format!(
        "volumes: [{{name: data}}]\nservices:\n  - name: first\n    image: a\n  - name: web\n    image: b\n{}",
        keys.lines().map(|line| format!("    {line}\n")).collect::<String>()
    );
    let (node, _) =
        Node::parse(&[Source { name: "node.yml", text: &text }]).unwrap_or_else(|e| panic!("{e}"));
    let label = ContainerSettings::from_label(label).unwrap_or_else(|e| panic!("{e}"));
    ContainerSettings::merged(image, &label, &node.services[1].settings, &node.ids())
}

fn image() -> ImageDefaults {
    ImageDefaults {
        entrypoint: words(&["/entry"]),
        cmd: words(&["arg"]),
        env: words(&["A=image"]),
        working_dir: "/image".to_owned(),
        user: None,
    }
}

fn with(label: &str, keys: &str) -> Container {
    settled(&image(), label, keys).unwrap()
}

fn names(sets: &CapabilitySets) -> [Vec<&str>; 3] {
    [&sets.effective, &sets.bounding, &sets.ambient].map(|set| set.iter().map(|c| c.name()).collect())
}

fn mount<'a>(container: &'a Container, destination: &str) -> &'a Mount {
    container.mounts.iter().find(|mount| mount.destination == destination).unwrap()
}

#[test]
fn the_image_counts_until_the_label_speaks_and_the_label_until_the_file_does() {
    let (none, label) = ("{}", r#"{"command": ["/label"], "env": ["A=label"], "cwd": "/label"}"#);
    let of = |c: Container| (c.args, c.env, c.cwd);
    assert_eq!(of(with(none, "")), (words(&["/entry", "arg"]), words(&["A=image"]), "/image".to_owned()));
    assert_eq!(of(with(label, "")), (words(&["/label"]), words(&["A=label"]), "/label".to_owned()));
    let keys = "command: [/file]\nenv: [A=file]\ncwd: /file";
    assert_eq!(of(with(label, keys)), (words(&["/file"]), words(&["A=file"]), "/file".to_owned()));
}

#[test]
fn a_key_that_is_there_and_empty_clears_the_labels() {
    let label = r#"{"env": ["A=label"], "binds": ["/a:/a"], "capabilities": ["all"], "annotations": {"a": "b"},
        "rootfsPropagation": "shared", "cgroupsPath": "/a", "sysctl": {"a": "b"}, "rlimits": ["core,0,0"],
        "devices": [{"path": "all", "type": "b"}], "resources": {"pids": {"limit": 5}}, "maskedPaths": ["/a"],
        "tmpfs": ["/t"], "runtime": {"mkdir": ["/a"], "cgroups": ["a"], "bindNS": {"net": "/n", "uts": "/u"}}}"#;
    let full = with(label, "");
    assert_eq!((full.rlimits.len(), full.resources.devices.len(), full.mounts.len()), (1, 1, 7));
    let keys = "env: []\nbinds: []\ncapabilities: []\nannotations: {}\nrootfsPropagation: ''\ncgroupsPath: ''\n\
        sysctl: {}\nrlimits: []\ndevices: []\nresources: {}\nmaskedPaths: []\ntmpfs: []\n\
        runtime: {mkdir: [], bindNS: {net: ''}}";
    let cleared = with(label, keys);
    let nothing = with("{}", "env: []");
    assert_eq!(cleared.runtime.cgroups, ["a"], "a key of the runtime that is not there keeps the label's");
    assert_eq!((cleared.runtime.bind_ns.net.as_str(), cleared.runtime.bind_ns.uts.as_str()), ("", "/u"));
    assert_eq!(Container { runtime: nothing.runtime.clone(), ..cleared }, nothing);
}

#[test]
fn an_empty_word_is_as_none() {
    let label = r#"{"cwd": "/label", "net": "new", "hostname": "label", "uts": "new"}"#;
    let container = with(label, "cwd: ''\nnet: ''\nhostname: ''\nuts: ''");
    assert_eq!((container.cwd.as_str(), container.hostname.as_deref()), ("/label", Some("label")));
    assert_eq!((container.namespaces.net, container.namespaces.uts), (Namespace::New, Namespace::New));
}

#[test]
fn nothing_said_means_the_machines_namespaces_but_a_pid_namespace_of_its_own() {
    let spaces = with("{}", "").namespaces;
    assert_eq!([&spaces.net, &spaces.ipc, &spaces.uts, &spaces.user], [&Namespace::Host; 4]);
    assert_eq!(spaces.pid, Namespace::New);
    let spaces = with("{}", "net: none\npid: host\nipc: /run/ipc\nuts: root\nuserns: new").namespaces;
    assert_eq!((spaces.net, spaces.pid, spaces.uts), (Namespace::New, Namespace::Host, Namespace::Host));
    assert_eq!((spaces.ipc, spaces.user), (Namespace::Path("/run/ipc".to_owned()), Namespace::New));
}

#[test]
fn nothing_said_means_no_capability() {
    assert_eq!(names(&with("{}", "").capabilities), [vec![], vec![], vec![]] as [Vec<&str>; 3]);
}

#[test]
fn capabilities_replace_the_labels_and_additions_join_them() {
    let label = r#"{"capabilities": ["CAP_KILL", "CAP_CHOWN"], "ambient": ["CAP_KILL"]}"#;
    let kept = names(&with(label, "").capabilities).map(|set| set.join(" "));
    assert_eq!(kept, ["CAP_CHOWN CAP_KILL", "CAP_CHOWN CAP_KILL", "CAP_KILL"]);
    let replaced = names(&with(label, "capabilities: [CAP_BPF]\nambient: [CAP_MKNOD]").capabilities)
        .map(|s| s.join(" "));
    assert_eq!(replaced, ["CAP_BPF", "CAP_BPF CAP_MKNOD", "CAP_MKNOD"], "what is ambient is bounding too");
    let joined = with(label, "capabilities.add: [CAP_BPF, CAP_KILL]").capabilities;
    assert_eq!(names(&joined)[0], ["CAP_BPF", "CAP_CHOWN", "CAP_KILL"]);
    assert_eq!(joined.permitted, joined.bounding);
    assert_eq!(joined.inheritable, joined.bounding);
    assert_eq!(with(label, "capabilities.add: [all]").capabilities.effective.len(), 41);
    assert_eq!(
        with(r#"{"capabilities": ["ALL"]}"#, "capabilities.add: [CAP_BPF]").capabilities.effective.len(),
        41
    );
    assert!(with(label, "capabilities: [none]").capabilities.effective.is_empty());
    let both = with(label, "capabilities: [CAP_BPF]\ncapabilities.add: [CAP_MKNOD]").capabilities;
    assert_eq!(names(&both)[0], ["CAP_BPF"], "an addition has no effect beside what replaces");
}

#[test]
fn default_mounts_are_those_of_linuxkit_in_order() {
    let list = |keys: &str| {
        let line = |m: &Mount| format!("{} {} {} {}", m.destination, m.kind, m.source, m.options.join(","));
        with("{}", keys).mounts.iter().map(line).collect::<Vec<_>>()
    };
    let pts = "/dev/pts devpts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620";
    let proc = "/proc proc proc nosuid,nodev,noexec,relatime";
    let cgroup = "/sys/fs/cgroup cgroup cgroup nosuid,noexec,nodev,relatime,ro";
    let dev = "/dev tmpfs tmpfs nosuid,strictatime,mode=755,size=65536k";
    let sys = "/sys sysfs sysfs nosuid,noexec,nodev";
    assert_eq!(list(""), [dev, pts, proc, sys, cgroup]);
    let (dev, sys) = (format!("{dev},ro"), format!("{sys},ro"));
    assert_eq!(list("readonly: true"), [&dev, pts, proc, &sys, cgroup]);
}

#[test]
fn of_mounts_with_one_destination_the_last_in_order_tmpfs_binds_mounts_counts() {
    let keys = "tmpfs: ['/a:size=1m', /b, /dev]\nbinds: ['/x:/b', '/x:/c:ro']\n\
        mounts: [{type: ext4, source: /dev/sda1, destination: /c}, {type: cgroup, options: [rw]}]";
    let container = with("{}", keys);
    assert_eq!(mount(&container, "/a").options, ["size=1m"]);
    assert_eq!(
        (mount(&container, "/b").kind.as_str(), mount(&container, "/b").source.as_str()),
        ("bind", "/x")
    );
    assert_eq!(mount(&container, "/c").kind, "ext4");
    assert_eq!(mount(&container, "/dev").options, [] as [&str; 0]);
    assert_eq!(mount(&container, "/sys/fs/cgroup").options, ["rw"]);
    let destinations: Vec<&str> = container.mounts.iter().map(|mount| mount.destination.as_str()).collect();
    assert_eq!(destinations, ["/a", "/b", "/c", "/dev", "/dev/pts", "/proc", "/sys", "/sys/fs/cgroup"]);
}

#[test]
fn binds_replace_the_labels_and_additions_join_them() {
    let label = r#"{"binds": ["/a:/a", "/b:/b"]}"#;
    let bound = |keys: &str| -> Vec<String> {
        let container = with(label, keys);
        let binds = container.mounts.iter().filter(|mount| mount.kind == "bind");
        binds.map(|mount| format!("{}:{}", mount.source, mount.destination)).collect()
    };
    assert_eq!(bound(""), ["/a:/a", "/b:/b"]);
    assert_eq!(bound("binds: ['/c:/c']"), ["/c:/c"]);
    assert_eq!(bound("binds.add: ['/c:/c', '/x:/b']"), ["/a:/a", "/x:/b", "/c:/c"]);
    assert_eq!(bound("binds: ['/c:/c']\nbinds.add: ['/d:/d']"), ["/c:/c"]);
}

#[test]
fn a_volume_is_its_directory() {
    let bind = with("{}", "binds: ['data:/srv']");
    assert_eq!(mount(&bind, "/srv").source, "/containers/volumes/data/merged");
    assert_eq!(mount(&bind, "/srv").options, ["rw", "rbind", "rshared"]);
    let full = with("{}", "mounts: [{type: bind, source: data, destination: /srv}]");
    assert_eq!(mount(&full, "/srv").source, "/containers/volumes/data/merged");
    assert_eq!(mount(&full, "/srv").options, ["rbind"], "a bind mount says that it is one");
}

#[test]
fn what_a_mount_leaves_out_is_inferred() {
    let keys = "mounts: [{source: mqueue}, {destination: /dev}, {type: tmpfs, destination: /x}, {source: proc, \
        destination: /p}]";
    let container = with("{}", keys);
    let of = |at: &str| (mount(&container, at).kind.clone(), mount(&container, at).source.clone());
    assert_eq!(of("/dev/mqueue"), ("mqueue".to_owned(), "mqueue".to_owned()));
    assert_eq!(of("/dev"), ("tmpfs".to_owned(), "tmpfs".to_owned()));
    assert_eq!(of("/x"), ("tmpfs".to_owned(), "tmpfs".to_owned()));
    assert_eq!(of("/p"), ("proc".to_owned(), "proc".to_owned()));
}

#[test]
fn a_device_may_be_used_by_a_rule_of_its_own() {
    let keys = "devices: [{path: all, type: b}, {path: /dev/x, type: c, major: 5, minor: 1, mode: '0620'}]\n\
        resources: {devices: [{allow: false, access: rwm}]}";
    let container = with("{}", keys);
    assert_eq!(container.devices.len(), 1);
    assert_eq!((container.devices[0].path.as_str(), container.devices[0].mode), ("/dev/x", 0o620));
    let rules = serde_json::to_string(&container.resources.devices).unwrap();
    let expected = r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"b","access":"rwm"},{"allow":true,"type":"c","major":5,"minor":1,"access":"rwm"}]"#;
    assert_eq!(rules, expected);
}

#[test]
fn a_name_is_the_id_of_its_container() {
    let user = with("{}", "uid: web\ngid: first\nadditionalGids: [4, web, root]").user;
    assert_eq!(user, User { uid: 101, gid: 100, additional_gids: vec![4, 101, 0] });
    assert_eq!(with(r#"{"uid": "first"}"#, "").user.uid, 100);
    let unknown = settled(&image(), r#"{"gid": "nobody"}"#, "").unwrap_err();
    assert_eq!(unknown.to_string(), "`nobody` in `gid` is not the name of a container of this node");
}

#[test]
fn the_images_user_counts_only_where_nobody_names_another() {
    let nobody = User { uid: 65534, gid: 65533, additional_gids: vec![7] };
    let image = ImageDefaults { user: Some(nobody.clone()), ..image() };
    assert_eq!(settled(&image, "{}", "").unwrap().user, nobody);
    assert_eq!(settled(&image, "{}", "uid: 5").unwrap().user, User { uid: 5, ..User::default() });
    assert_eq!(settled(&image, r#"{"uid": 0}"#, "").unwrap().user, User::default());
    assert_eq!(with("{}", "").user, User::default());
}

#[test]
fn ids_are_allotted_from_100_and_the_last_of_one_name_counts() {
    let ids = IdMap::allot(["a", "b", "a"]);
    assert_eq!((ids.get("a"), ids.get("b"), ids.get("c")), (Some(102), Some(101), None));
    let text =
        "onboot: [{name: x, image: a}]\nonshutdown: [{name: y, image: a}]\nservices: [{name: z, image: a}]";
    let (node, _) = Node::parse(&[Source { name: "node.yml", text }]).unwrap();
    assert_eq!(["x", "y", "z"].map(|name| node.ids().get(name)), [Some(100), Some(101), Some(102)]);
}

#[test]
fn a_container_without_a_command_is_none() {
    let bare = ImageDefaults::default();
    assert_eq!(settled(&bare, "{}", ""), Err(SettleError::NoCommand));
    let container = settled(&bare, "{}", "command: [/a]").unwrap();
    assert_eq!((container.cwd.as_str(), container.env.len()), ("/", 0));
}

#[test]
fn a_host_name_needs_a_namespace_for_it() {
    assert_eq!(with("{}", "hostname: a\nuts: new").hostname.as_deref(), Some("a"));
    let error = settled(&image(), "{}", "hostname: a").unwrap_err();
    assert_eq!(error, SettleError::HostnameOfMachine { hostname: "a".to_owned() });
}

#[test]
fn the_runtime_is_written_as_linuxkit_writes_it() {
    let runtime = with("{}", "").runtime;
    let empty = r#"{"cgroups":[],"mounts":[],"mkdir":[],"interfaces":[],"bindNS":{"cgroup":"","ipc":"","mnt":"","net":"","pid":"","user":"","uts":""},"namespace":""}"#;
    assert_eq!(serde_json::to_string(&runtime).unwrap(), empty);
    let keys = "runtime:\n  cgroups: [a]\n  mkdir: [/var/a, b]\n  namespace: other\n  bindNS: {net: /run/netns/wg}\n  \
        mounts: [{type: overlay, source: overlay, destination: etc, options: [rw]}]\n  \
        interfaces: [{name: wg0, add: wireguard, createInRoot: true}, {name: eth1, peer: veth1}]";
    let runtime = with("{}", keys).runtime;
    let written = r#"{"cgroups":["a"],"mounts":[{"destination":"etc","type":"overlay","source":"overlay","options":["rw"]}],"mkdir":["/var/a","b"],"interfaces":[{"name":"wg0","add":"wireguard","createInRoot":true},{"name":"eth1","peer":"veth1","createInRoot":false}],"bindNS":{"cgroup":"","ipc":"","mnt":"","net":"/run/netns/wg","pid":"","user":"","uts":""},"namespace":"other"}"#;
    assert_eq!(serde_json::to_string(&runtime).unwrap(), written);
    assert_eq!(serde_json::from_str::<super::Runtime>(written).unwrap(), runtime);
    assert_eq!(serde_json::from_str::<super::Runtime>("{}").unwrap(), with("{}", "").runtime);
}

#[test]
fn a_label_is_held_to_the_same_rules_as_a_file() {
    let wrong =
        r#"{"name": "a", "capabilities": ["CAP_X"], "binds": ["vol:/a"], "restart": "always", "bogus": 1}"#;
    let error = ContainerSettings::from_label(wrong).unwrap_err();
    let told: Vec<String> = error.errors().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "org.mobyproject.config:1:2: name: `name` cannot be set in a label",
            "org.mobyproject.config:1:32: capabilities[0]: unknown capability `CAP_X`",
            "org.mobyproject.config:1:52: binds[0]: the source `vol` is not an absolute path, and a label knows no volumes",
            "org.mobyproject.config:1:63: restart: `restart` is a key of services only",
            "org.mobyproject.config:1:84: bogus: unknown key `bogus`",
        ]
    );
    assert!(ContainerSettings::from_label("[]").is_err());
    assert!(ContainerSettings::from_label("").is_err());
    assert!(ContainerSettings::from_label("{").is_err());
    assert_eq!(ContainerSettings::from_label("{}").unwrap(), ContainerSettings::default());
}
