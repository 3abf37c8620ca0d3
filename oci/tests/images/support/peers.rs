//! Programs of others: a registry, and tools that make and inspect images.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Whether all these programs are installed; says which is not.
pub fn installed(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |name: &&&str| std::env::split_paths(&path).any(|directory| directory.join(name).is_file());
    match programs.iter().find(|name| !found(name)) {
        Some(missing) => {
            println!("skipped: {missing} is not installed");
            false
        }
        None => true,
    }
}

/// Runs a program to its good end; returns what it wrote.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program}: {}: {said}", output.status);
    output.stdout
}

/// Debian's docker-registry on a loopback port; killed when dropped.
pub struct DockerRegistry {
    child: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl DockerRegistry {
    /// Starts one with more of a configuration, indented below its sections `http` and the top.
    pub fn start(http: &str, top: &str) -> DockerRegistry {
        let directory = tempfile::tempdir().unwrap();
        // Another may take the port in between; then the program says so and ends.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (config, storage) = (directory.path().join("config.yml"), directory.path().join("storage"));
        let text = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http:\n  addr: 127.0.0.1:{port}\n  secret: not-one\n{http}\n{top}\n",
            storage.display()
        );
        fs::write(&config, text).unwrap();
        let mut child = Command::new("docker-registry")
            .args([OsStr::new("serve"), config.as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (said, lines) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(|line| drop(said.send(line))));
        let registry = DockerRegistry { child, port, _directory: directory };
        let mut log = Vec::new();
        while !log.last().is_some_and(|line: &String| line.contains("listening on")) {
            match lines.recv_timeout(Duration::from_secs(60)) {
                Ok(line) => log.push(line),
                Err(error) => panic!("docker-registry does not start: {error}: {log:#?}"),
            }
        }
        registry
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes an image with umoci: two layers, an environment and a command. Returns the layout's directory; the tag is `1`.
pub fn umoci_image(below: &Path, architecture: &str) -> String {
    let (layout, bundle) = (below.join(architecture), below.join(format!("{architecture}-bundle")));
    let image = format!("{}:1", layout.display());
    run("umoci", &["init", "--layout", &layout.display().to_string()]);
    run("umoci", &["new", "--image", &image]);
    for layer in ["lower", "upper"] {
        run("umoci", &["unpack", "--rootless", "--image", &image, &bundle.display().to_string()]);
        let root = bundle.join("rootfs");
        fs::create_dir_all(root.join("etc")).unwrap();
        let text: String =
            (0..20_000).map(|line| format!("{layer} {architecture} {}\n", line * 7919 % 10_007)).collect();
        fs::write(root.join("etc").join(layer), text).unwrap();
        run("umoci", &["repack", "--image", &image, &bundle.display().to_string()]);
        fs::remove_dir_all(&bundle).unwrap();
    }
    let settings = ["--config.env=A=b", "--config.cmd=/bin/x", "--config.workingdir=/etc", "--os=linux"];
    run(
        "umoci",
        &[&["config", "--image", &image, &format!("--architecture={architecture}")][..], &settings].concat(),
    );
    layout.display().to_string()
}
