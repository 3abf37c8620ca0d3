use super::*;
use proptest::prelude::*;

fn path(raw: &str) -> TreePath {
    raw.parse().expect("a clean path")
}

fn tree() -> Tree<u8> {
    Tree::new(Meta::root_owned(0o755, 7))
}

fn file(content: u8) -> Kind<u8> {
    Kind::File { len: 1, content }
}

fn symlink(target: &str) -> Kind<u8> {
    Kind::Symlink(target.as_bytes().into())
}

fn listing(tree: &Tree<u8>) -> Vec<String> {
    tree.walk().map(|(path, _, _)| path.to_string()).collect()
}

#[test]
fn paths_are_cleaned_and_cannot_lead_out() {
    assert_eq!(path("/./usr//bin/"), path("usr/bin"));
    assert_eq!(path("/"), TreePath::root());
    assert!(matches!(TreePath::parse("a/../../x"), Err(PathError::LeavesRoot { .. })));
    assert!(matches!(TreePath::parse(b"a\0b"), Err(PathError::Nul { .. })));
    assert!(matches!(TreePath::parse("x".repeat(256)), Err(PathError::TooLong { .. })));
    assert!(path("usr/bin").starts_with(&path("usr")) && !path("usrx").starts_with(&path("usr")));
}

#[test]
fn walk_gives_directories_before_contents_in_byte_order() {
    let mut tree = tree();
    for p in ["b/z", "a-b", "a/c", "a/B"] {
        tree.put(&path(p), Meta::default(), file(0)).unwrap();
    }
    assert_eq!(listing(&tree), ["/", "/a", "/a/B", "/a/c", "/a-b", "/b", "/b/z"]);
    assert_eq!(tree.get(&path("a")).unwrap().meta, Meta::root_owned(0o755, 7));
}

#[test]
fn parents_are_followed_through_links_that_stay_inside() {
    let mut tree = tree();
    tree.put(&path("usr/lib"), Meta::default(), Kind::Dir).unwrap();
    tree.put(&path("lib"), Meta::default(), symlink("usr/lib")).unwrap();
    tree.put(&path("out"), Meta::default(), symlink("../../../usr")).unwrap();
    tree.put(&path("lib/x"), Meta::default(), file(1)).unwrap();
    tree.put(&path("out/y"), Meta::default(), file(2)).unwrap();
    assert_eq!(listing(&tree), ["/", "/lib", "/out", "/usr", "/usr/lib", "/usr/lib/x", "/usr/y"]);
    assert_eq!(tree.real_path(&path("lib/x")), Some(path("usr/lib/x")));
}

#[test]
fn a_loop_of_links_is_an_error() {
    let mut tree = tree();
    tree.put(&path("a"), Meta::default(), symlink("b")).unwrap();
    tree.put(&path("b"), Meta::default(), symlink("/a")).unwrap();
    let error = tree.put(&path("a/x"), Meta::default(), file(0)).unwrap_err();
    assert_eq!(error, TreeError::LinkLoop { path: path("a/x") });
}

#[test]
fn a_file_is_no_parent() {
    let mut tree = tree();
    tree.put(&path("a"), Meta::default(), file(0)).unwrap();
    let error = tree.put(&path("a/b/c"), Meta::default(), file(0)).unwrap_err();
    assert_eq!(error, TreeError::NotADirectory { path: path("a/b/c"), parent: path("a") });
}

#[test]
fn hard_links_share_one_inode_and_are_counted() {
    let mut tree = tree();
    tree.put(&path("a"), Meta::default(), file(5)).unwrap();
    tree.link(&path("d/b"), &path("a")).unwrap();
    assert_eq!(tree.find(&path("a")), tree.find(&path("d/b")));
    assert_eq!(tree.get(&path("a")).unwrap().links(), 2);
    tree.remove(&path("a"));
    assert_eq!(tree.get(&path("d/b")).unwrap().links(), 1);
    assert!(matches!(tree.link(&path("c"), &path("d")), Err(TreeError::LinkTarget { .. })));
    assert!(matches!(tree.link(&path("c"), &path("nope")), Err(TreeError::LinkTarget { .. })));
}

#[test]
fn whiteouts_and_opaque_directories_take_away() {
    let mut tree = tree();
    for p in ["d/a", "d/b/c", "e"] {
        tree.put(&path(p), Meta::default(), file(0)).unwrap();
    }
    tree.apply(Change { path: path("e"), action: Action::Remove }).unwrap();
    tree.apply(Change { path: path("d"), action: Action::Opaque }).unwrap();
    assert_eq!(listing(&tree), ["/", "/d"]);
}

#[test]
fn a_directory_over_a_directory_keeps_what_it_holds_and_a_file_does_not() {
    let mut tree = tree();
    tree.put(&path("d/a"), Meta::default(), file(0)).unwrap();
    tree.put(&path("d"), Meta::root_owned(0o700, 1), Kind::Dir).unwrap();
    assert_eq!(listing(&tree), ["/", "/d", "/d/a"]);
    tree.put(&path("d"), Meta::default(), file(1)).unwrap();
    assert_eq!(listing(&tree), ["/", "/d"]);
}

#[test]
fn merging_joins_directories_through_links_and_keeps_hard_links() {
    let mut base = tree();
    base.put(&path("usr/lib/old"), Meta::default(), file(0)).unwrap();
    base.put(&path("lib"), Meta::default(), symlink("usr/lib")).unwrap();
    let mut over = tree();
    over.put(&path("lib/modules/m"), Meta::default(), file(1)).unwrap();
    over.link(&path("lib/n"), &path("lib/modules/m")).unwrap();
    base.merge(&TreePath::root(), over).unwrap();
    assert_eq!(base.find(&path("usr/lib/n")), base.find(&path("lib/modules/m")));
    assert!(matches!(base.get(&path("lib")).unwrap().kind(), Kind::Symlink(_)));
    assert_eq!(base.get(&path("usr/lib/n")).unwrap().links(), 2);
}

#[test]
fn a_link_in_the_place_of_a_directory_keeps_what_that_held() {
    let mut base = tree();
    base.put(&path("lib/modules/m"), Meta::default(), file(1)).unwrap();
    base.put(&path("lib/x"), Meta::default(), file(1)).unwrap();
    let mut over = tree();
    over.put(&path("usr/lib/x"), Meta::default(), file(2)).unwrap();
    over.put(&path("lib"), Meta::default(), symlink("usr/lib")).unwrap();
    base.merge(&TreePath::root(), over).unwrap();
    assert_eq!(
        listing(&base),
        ["/", "/lib", "/usr", "/usr/lib", "/usr/lib/modules", "/usr/lib/modules/m", "/usr/lib/x"]
    );
    assert_eq!(base.follow(&path("lib/x")).unwrap().kind(), &file(2));
    let mut nowhere = tree();
    nowhere.put(&path("usr"), Meta::default(), symlink("gone")).unwrap();
    assert!(matches!(base.merge(&TreePath::root(), nowhere), Err(TreeError::NotADirectory { .. })));
}

proptest! {
    #[test]
    fn link_counts_equal_the_names_that_are_reachable(steps in prop::collection::vec((0u8..5, 0usize..6, 0usize..6), 0..60)) {
        let names = ["a", "b", "a/b", "a/c", "b/a/d", "l/x"];
        let mut tree = tree();
        for (what, at, to) in steps {
            let (at, to) = (path(names[at]), path(names[to]));
            let _ = match what {
                0 => tree.put(&at, Meta::default(), file(0)),
                1 => tree.put(&at, Meta::default(), Kind::Dir),
                2 => tree.put(&at, Meta::default(), symlink(names[2])),
                3 => tree.link(&at, &to),
                _ => { tree.remove(&at); Ok(()) }
            };
        }
        let mut seen = BTreeMap::new();
        for (_, id, _) in tree.walk() {
            *seen.entry(id).or_insert(0u32) += 1;
        }
        for (id, names) in seen {
            prop_assert_eq!(tree.inode(id).links(), names);
        }
    }

    #[test]
    fn any_bytes_either_parse_to_a_clean_path_or_are_refused(raw in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(path) = TreePath::parse(&raw) {
            prop_assert!(path.components().all(|name| !name.is_empty() && name != b"." && name != b".."));
            prop_assert_eq!(TreePath::parse(path.as_bytes()).unwrap(), path);
        }
    }
}
