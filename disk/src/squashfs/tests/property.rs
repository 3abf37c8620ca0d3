//! Any tree, written and unpacked by unsquashfs, is the same tree.

use super::*;
use kit_spec::tree::Device;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Dir,
    Packed(usize, usize),
    Bytes(u64, usize),
    Symlink(usize),
    Link(usize),
    Device(u32, u32),
    Fifo,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Dir),
        5 => (0usize..2, any::<prop::sample::Index>()).prop_map(|(pack, file)| Step::Packed(pack, file.index(12))),
        3 => (0u64..20, 0usize..9000).prop_map(|(seed, len)| Step::Bytes(seed, len)),
        1 => (1usize..200).prop_map(Step::Symlink),
        2 => (0usize..100).prop_map(Step::Link),
        1 => (0u32..4096, 0u32..1_048_576).prop_map(|(major, minor)| Step::Device(major, minor)),
        1 => Just(Step::Fifo),
    ]
}

fn path_of() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof!["[a-d]", "[ -.0-~]{1,12}"], 1..5).prop_map(|names| names.join("/"))
}

fn meta_of() -> impl Strategy<Value = Meta> {
    let attribute = ("(user|trusted)\\.[a-c]{1,3}", proptest::collection::vec(any::<u8>(), 0..40));
    let xattrs = proptest::collection::btree_map(attribute.0, attribute.1, 0..3);
    (0u16..0o10000, 0u32..5, any::<u32>(), -10i64..1 << 33, xattrs).prop_map(
        |(mode, uid, gid, mtime, xattrs)| {
            // The highest number stands for no change of owner.
            let gid = gid.min(u32::MAX - 1);
            let xattrs =
                xattrs.into_iter().map(|(name, value)| (name.into_bytes().into(), value.into())).collect();
            Meta { mode, uid, gid, mtime, xattrs }
        },
    )
}

/// Linux keeps `user.` attributes on files and directories only, and no attributes of links but root's.
fn fit(meta: &mut Meta, kind: &Kind<C>) {
    if !matches!(kind, Kind::Dir | Kind::File { .. }) {
        meta.xattrs.retain(|name, _| name.starts_with(b"trusted."));
    }
}

fn build(steps: Vec<(String, Meta, Step)>, lens: &[Vec<u64>]) -> Tree<C> {
    let mut tree = Tree::new(meta(0o755));
    let mut files: Vec<TreePath> = Vec::new();
    for (at, mut meta, step) in steps {
        let Ok(at) = TreePath::parse(&at) else { continue };
        let kind = match step {
            Step::Dir => Kind::Dir,
            Step::Packed(pack, file) => {
                let file = file % lens[pack].len();
                Kind::File { len: lens[pack][file], content: C::Packed(pack, FileRef::new(file as u32)) }
            }
            Step::Bytes(seed, len) => Kind::File { len: len as u64, content: C::Bytes(text(seed, len)) },
            Step::Symlink(len) => Kind::Symlink(vec![b'!'; len].into()),
            Step::Device(major, minor) => Kind::Char(Device { major, minor }),
            Step::Fifo => Kind::Fifo,
            Step::Link(which) => {
                if let Some(target) = files.get(which % files.len().max(1)) {
                    // The target may be gone, or the path lead through a file.
                    let _ = tree.link(&at, target);
                }
                continue;
            }
        };
        fit(&mut meta, &kind);
        if tree.put(&at, meta, kind).is_ok() {
            files.push(at);
        }
    }
    tree
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_tree_unpacks_to_itself(
        steps in proptest::collection::vec((path_of(), meta_of(), step()), 0..60),
        seeds in proptest::collection::vec((0u64..8, 0usize..15_000), 12..24),
        threads in 1usize..4,
    ) {
        if !can_unpack() {
            return Ok(());
        }
        let dir = tempfile::tempdir().unwrap();
        let contents: Vec<Vec<u8>> = seeds.iter().map(|(seed, len)| text(*seed, *len)).collect();
        let halves = [&contents[..contents.len() / 2 + 2], &contents[contents.len() / 2 - 2..]];
        let packs: Vec<Pack> = halves
            .iter()
            .zip(["a", "b"])
            .map(|(contents, name)| packed(&dir.path().join(name), small_blocks(), threads, contents))
            .collect();
        let lens = halves.map(|contents| contents.iter().map(|content| content.len() as u64).collect());
        let tree = build(steps, &lens);
        let image = image(&tree, &packs, &Options { threads, ..options(small_blocks()) });
        assert_same(&unsquashed(dir.path(), &image), &tree, &packs);
    }
}
