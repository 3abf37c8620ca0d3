//! Debian's docker-registry on a port of loopback.

use crate::image::Layout;
use qemu_tests::guest::until;
use qemu_tests::kitbuild::run;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A registry that runs; it is stopped when this is dropped.
pub struct Registry {
    child: Child,
    port: u16,
    storage: PathBuf,
}

impl Registry {
    pub fn start(program: &Path, dir: &Path) -> Registry {
        let storage = dir.join("storage");
        fs::create_dir_all(&storage).expect("a directory");
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let port = port.expect("a port of loopback").port();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: 127.0.0.1:{port}}}\n",
            storage.display()
        );
        let path = dir.join("config.yml");
        fs::write(&path, config).expect("a configuration");
        let log = File::create(dir.join("log")).expect("a log");
        let mut command = Command::new(program);
        command.arg("serve").arg(&path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("docker-registry runs");
        let registry = Registry { child, port, storage };
        let up = until(Duration::from_secs(30), || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
        assert!(up.is_some(), "{}", fs::read_to_string(dir.join("log")).unwrap_or_default());
        registry
    }

    /// Its name in references.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Pushes a layout's image under a name.
    pub fn push(&self, skopeo: &Path, image: &Layout, name: &str) {
        let mut command = Command::new(skopeo);
        command.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]);
        command.arg(format!("oci:{}:image", image.dir.display()));
        command.arg(format!("docker://{}/{name}", self.host()));
        run(command).unwrap_or_else(|error| panic!("{error}"));
    }

    /// The file in which it keeps a blob.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("a digest");
        let path =
            self.storage.join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data");
        assert!(path.is_file(), "{} is not in the registry", path.display());
        path
    }

    /// Ends it.
    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}
