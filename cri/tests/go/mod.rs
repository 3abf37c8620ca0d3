//! The program of `tests/peer`, made with the machine's Go.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The program.
pub struct Peer(PathBuf);

/// Builds it, once. Where there is no Go of its version, or the modules cannot be had, says so.
pub fn peer() -> Option<&'static Peer> {
    static PEER: OnceLock<Result<Peer, String>> = OnceLock::new();
    match PEER.get_or_init(build) {
        Ok(peer) => Some(peer),
        Err(why) => {
            println!("skipped: {why}");
            None
        }
    }
}

fn build() -> Result<Peer, String> {
    let go = installed().ok_or("go is not installed")?;
    let modules = run(&go, &["mod", "download"]);
    if !modules.status.success() {
        let why = String::from_utf8_lossy(&modules.stderr);
        return Err(format!("go mod download: {}", why.trim().lines().last().unwrap_or("no reason given")));
    }
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peer");
    let built =
        run(&go, &["build", "-buildvcs=false", "-o", program.to_str().expect("a path of UTF-8"), "."]);
    assert!(built.status.success(), "go build: {}", String::from_utf8_lossy(&built.stderr));
    Ok(Peer(program))
}

impl Peer {
    /// What it prints when told to do this.
    pub fn run(&self, what: &str) -> String {
        let output = Command::new(&self.0).arg(what).output().expect("the peer runs");
        assert!(output.status.success(), "peer {what}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("the peer prints UTF-8")
    }
}

/// Go of the path, or where its own archive unpacks to.
fn installed() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = PathBuf::from("/usr/local/go/bin");
    std::env::split_paths(&path).chain([usual]).map(|directory| directory.join("go")).find(|go| go.is_file())
}

/// This Go and no other that it would fetch.
fn run(go: &Path, arguments: &[&str]) -> Output {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peer");
    let mut command = Command::new(go);
    command.args(arguments).current_dir(module).env("GOTOOLCHAIN", "local").env("GOWORK", "off");
    command.output().unwrap_or_else(|error| panic!("{}: {error}", go.display()))
}
