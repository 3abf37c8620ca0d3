//! Layers over layers.

use super::*;

fn fold_all(layers: &[&[Member]]) -> Tree<Vec<u8>> {
    let mut tree = Tree::new(meta(0o755));
    for members in layers {
        let bytes = archive(Format::Pax, members);
        let layer = Layer::open(&bytes[..], None).unwrap();
        fold(layer, &mut tree, |_, _, content| {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).map(|_| bytes)
        })
        .unwrap();
    }
    tree
}

fn listing(tree: &Tree<Vec<u8>>) -> Vec<String> {
    tree.walk()
        .skip(1)
        .map(|(path, _, inode)| match inode.kind() {
            Kind::File { content, .. } => format!("{path}={}", String::from_utf8_lossy(content)),
            Kind::Symlink(target) => format!("{path}->{}", String::from_utf8_lossy(target)),
            _ => path.to_string(),
        })
        .collect()
}

const LOWER: [(&str, &str); 4] = [("d/a", "low"), ("d/sub/b", "low"), ("e/c", "low"), ("f", "low")];

fn lower() -> Vec<Member> {
    LOWER.iter().map(|(name, data)| Member::file(name, data)).collect()
}

#[test]
fn whiteouts_hide_lower_layers_only_wherever_they_stand() {
    let upper = [Member::file("d/new", "up"), Member::file("f", "up"), Member::file("e/c", "up")];
    let whiteouts =
        [Member::file("d/.wh..wh..opq", ""), Member::file(".wh.f", ""), Member::file(".wh.e", "")];
    let want = ["/d", "/d/new=up", "/e", "/e/c=up", "/f=up"];
    let first: Vec<Member> = whiteouts.iter().chain(&upper).cloned().collect();
    let last: Vec<Member> = upper.iter().chain(&whiteouts).cloned().collect();
    assert_eq!(listing(&fold_all(&[&lower(), &first])), want);
    assert_eq!(listing(&fold_all(&[&lower(), &last])), want);
}

#[test]
fn a_whiteout_in_a_later_layer_hides_what_an_earlier_one_put_in_a_hidden_place() {
    let upper = [Member::file("d/.wh..wh..opq", ""), Member::file("d/new", "up")];
    let top = [Member::file("d/.wh.new", "")];
    assert_eq!(listing(&fold_all(&[&lower(), &upper, &top])), ["/d", "/e", "/e/c=low", "/f=low"]);
}

#[test]
fn an_opaque_root_hides_everything_below() {
    let upper = [Member::file("only", "up"), Member::file(".wh..wh..opq", "")];
    assert_eq!(listing(&fold_all(&[&lower(), &upper])), ["/only=up"]);
}

#[test]
fn a_whiteout_of_what_is_not_there_does_nothing() {
    let upper = [
        Member::file("d/.wh.nothing", ""),
        Member::file("no/.wh.thing", ""),
        Member::file("x/.wh..wh..opq", ""),
    ];
    assert_eq!(listing(&fold_all(&[&lower(), &upper])), listing(&fold_all(&[&lower()])));
}

#[test]
fn whiteouts_go_through_links_unless_the_layer_replaces_them() {
    let lower = [
        Member::file("usr/lib/a", "low"),
        Member::file("usr/lib/b", "low"),
        Member::link(b'2', "lib", "usr/lib"),
    ];
    let through = [Member::file("lib/.wh.a", "")];
    assert_eq!(
        listing(&fold_all(&[&lower, &through])),
        ["/lib->usr/lib", "/usr", "/usr/lib", "/usr/lib/b=low"]
    );
    let kept = ["/lib", "/lib/c=up", "/usr", "/usr/lib", "/usr/lib/a=low", "/usr/lib/b=low"];
    let replaced = [Member::dir("lib"), Member::file("lib/c", "up"), Member::file("lib/.wh.a", "")];
    assert_eq!(listing(&fold_all(&[&lower, &replaced])), kept);
    let hidden = [Member::file("lib/.wh.a", ""), Member::file(".wh.lib", ""), Member::file("lib/c", "up")];
    assert_eq!(listing(&fold_all(&[&lower, &hidden])), kept);
}

#[test]
fn a_file_over_a_directory_takes_all_below_with_it_and_a_directory_joins() {
    let upper = [Member::file("d", "up"), Member { mode: 0o700, ..Member::dir("e") }];
    let tree = fold_all(&[&lower(), &upper]);
    assert_eq!(listing(&tree), ["/d=up", "/e", "/e/c=low", "/f=low"]);
    assert_eq!(tree.get(&path("e")).unwrap().meta, meta(0o700));
}

#[test]
fn hard_links_reach_into_lower_layers_and_must_have_a_target() {
    let upper = [Member::link(b'1', "g", "f")];
    let tree = fold_all(&[&lower(), &upper]);
    assert_eq!(tree.find(&path("g")), tree.find(&path("f")));
    let bytes = archive(Format::Ustar, &[Member::link(b'1', "g", "nowhere")]);
    let mut tree = Tree::new(meta(0o755));
    let told = told(fold(Layer::open(&bytes[..], None).unwrap(), &mut tree, |_, _, _| Ok(())));
    assert_eq!(told, "apply the layer to the tree: hard link /g: its target /nowhere is missing");
}

#[test]
fn a_tree_is_not_touched_by_a_layer_that_cannot_be_read_to_its_end() {
    let mut bytes = gzip(&archive(Format::Ustar, &lower()));
    bytes.pop();
    let mut tree = Tree::new(meta(0o755));
    let result = fold(Layer::open(&bytes[..], None).unwrap(), &mut tree, |_, _, _| Ok(()));
    assert!(told(result).starts_with("read the archive at byte"));
    assert_eq!(tree.arena_len(), 1);
}

#[test]
fn what_the_consumer_says_names_the_file() {
    let bytes = archive(Format::Ustar, &lower());
    let full = |_: &TreePath, _, _: &mut dyn Read| Err::<(), _>(std::io::ErrorKind::StorageFull.into());
    let told = told(changes(Layer::open(&bytes[..], None).unwrap(), full).map(|_| ()));
    assert_eq!(told, "store the content of /d/a: no storage space");
}
