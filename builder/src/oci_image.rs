//! An image put together here, as an OCI image in the store: one layer with all its files, a configuration, a manifest.
//!
//! Equal files, configuration and epoch give equal digests, so that a registry is sent only what changed.

use crate::archive;
use crate::contents::Contents;
use crate::image::{Config, Image};
use crate::resolve::platform;
use kit_oci::image::NewImageError;
use kit_oci::store::Store;
use kit_spec::artifact::Arch;
use oci_spec::OciSpecError;
use oci_spec::image::{
    ConfigBuilder, Descriptor, HistoryBuilder, ImageConfiguration, ImageConfigurationBuilder,
};
use std::io::{BufWriter, Write};
use tar::Builder;

/// Why an image is not one that OCI knows.
#[derive(Debug, thiserror::Error)]
pub enum OciImageError {
    /// The store does not take it.
    #[error(transparent)]
    New(#[from] NewImageError),
    /// Its configuration cannot be written as OCI's.
    #[error("write the image's configuration")]
    Config(#[source] OciSpecError),
}

/// Stores an image; the descriptor of its manifest, which has no name yet.
///
/// # Errors
/// See [`OciImageError`].
pub fn put(
    store: &Store,
    image: &Image,
    contents: &Contents,
    arch: Arch,
    epoch: u32,
) -> Result<Descriptor, OciImageError> {
    let layer = store.put_layer(|out| {
        let mut tar = Builder::new(BufWriter::with_capacity(256 << 10, out));
        archive::write(&mut tar, &image.tree, contents)?;
        tar.into_inner()?.flush()
    })?;
    let config = configuration(&image.config, arch, epoch).map_err(OciImageError::Config)?;
    Ok(store.put_image(&[layer], config)?)
}

fn configuration(config: &Config, arch: Arch, epoch: u32) -> Result<ImageConfiguration, OciSpecError> {
    let mut process = ConfigBuilder::default().env(config.env.clone());
    if !config.entrypoint.is_empty() {
        process = process.entrypoint(config.entrypoint.clone());
    }
    if !config.cmd.is_empty() {
        process = process.cmd(config.cmd.clone());
    }
    if !config.working_dir.is_empty() {
        process = process.working_dir(config.working_dir.clone());
    }
    if !config.user.is_empty() {
        process = process.user(config.user.clone());
    }
    if !config.labels.is_empty() {
        process =
            process.labels(config.labels.clone().into_iter().collect::<std::collections::HashMap<_, _>>());
    }
    let created = kit_disk::calendar::rfc3339(epoch);
    let history = HistoryBuilder::default().created(created.clone()).created_by("kitbuild").build()?;
    let platform = platform(arch);
    ImageConfigurationBuilder::default()
        .created(created)
        .os(platform.os())
        .architecture(platform.architecture())
        .config(process.build()?)
        .history(vec![history])
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::bytes;
    use kit_oci::pull::{self, Source};
    use kit_spec::tree::{Kind, Meta, Tree};

    fn image() -> Image {
        let mut tree = Tree::new(Meta::root_owned(0o755, 0));
        let mut put = |path: &str, mode, kind| {
            tree.put(&path.parse().unwrap(), Meta::root_owned(mode, 5), kind).unwrap();
        };
        put("bin", 0o755, Kind::Dir);
        put("bin/tool", 0o4755, bytes("tool"));
        put(&format!("{}/deep", "long".repeat(40)), 0o600, bytes("deep"));
        put("sh", 0o777, Kind::Symlink(b"bin/tool".as_slice().into()));
        tree.link(&"bin/other".parse().unwrap(), &"bin/tool".parse().unwrap()).unwrap();
        let labels = [("org.example.a".to_owned(), "1".to_owned())].into();
        let config = Config { entrypoint: vec!["/bin/tool".into()], labels, ..Config::default() };
        Image { tree, config }
    }

    #[test]
    fn what_is_stored_unpacks_to_the_same_tree_and_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let image = image();
        let target = put(&store, &image, &Contents::default(), Arch::Arm64, 1_709_251_199).unwrap();
        let name = format!("local.invalid/x@{}", target.digest()).parse().unwrap();
        let pinned = pull::resolve(&name, &platform(Arch::Arm64), &store, &Source::offline()).unwrap();
        let stored = store.image(&pinned).unwrap();
        assert_eq!(stored.config.created().as_deref(), Some("2024-02-29T23:59:59Z"));
        let process = stored.config.config().as_ref().unwrap();
        assert_eq!(process.entrypoint(), &Some(vec!["/bin/tool".to_owned()]));
        assert_eq!(
            process.labels().as_ref().and_then(|labels| labels.get("org.example.a")).map(String::as_str),
            Some("1")
        );
        let blob = store.stream_verified(stored.layers[0].blob.digest(), None).unwrap();
        let layer = kit_oci::layer::Layer::open(blob, None).unwrap();
        let (changes, _) = kit_oci::layer::changes(layer, |_, _, content| {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(content, &mut bytes).map(|_| bytes)
        })
        .unwrap();
        let mut tree = Tree::new(Meta::root_owned(0o755, 0));
        kit_oci::layer::apply(&mut tree, changes).unwrap();
        let list = |tree: &Tree<Vec<u8>>| -> Vec<String> {
            tree.walk()
                .map(|(path, _, inode)| format!("{path} {:?} {:?}", inode.meta, inode.kind()))
                .collect()
        };
        let expected = image.tree.map(|blob| match blob {
            crate::contents::Blob::Bytes(bytes) => bytes.to_vec(),
            crate::contents::Blob::Packed(..) => Vec::new(),
        });
        assert_eq!(list(&tree), list(&expected));
    }
}
