//! What unpacking a layer costs, beside `tar -x` behind the same decompressor: `cargo bench -p kit-oci --bench unpack`.
//!
//! `KIT_BENCH_LAYER` is a layer's blob; without, `/usr/lib` is packed to one. Both ways are taken in turn, and the least
//! of five runs counts. The program calls itself to decompress for tar, so that both have the same decoder.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kit_oci::digest::{self, Digest, Verifying};
use kit_oci::layer::{Decoder, unpack};

const RUNS: usize = 5;

/// Wall time, processor time.
type Cost = (Duration, Duration);

fn main() {
    if let Some(blob) = std::env::var_os("KIT_BENCH_DECODE") {
        let mut decoder = Decoder::new(File::open(blob).expect("a blob"), None).expect("a decoder");
        io::copy(&mut decoder, &mut io::stdout().lock()).expect("tar takes it");
        return;
    }
    let dir = tempfile::Builder::new().prefix("kit-bench").tempdir().expect("a directory");
    let blob = std::env::var_os("KIT_BENCH_LAYER").map_or_else(|| pack(dir.path()), PathBuf::from);
    let blob_digest = hash(File::open(&blob).expect("a blob"));
    let diff_id = hash(Decoder::new(File::open(&blob).expect("a blob"), None).expect("a decoder"));
    let mut best = [(Duration::MAX, Duration::MAX); 2];
    for _ in 0..RUNS {
        for (way, best) in best.iter_mut().enumerate() {
            let to = dir.path().join("to");
            // What an earlier run left to write is not this one's.
            Command::new("sync").status().expect("sync");
            let cost = cost(|| match way {
                0 => ours(&blob, &blob_digest, &diff_id, &to),
                _ => tar(&blob, &to),
            });
            *best = (best.0.min(cost.0), best.1.min(cost.1));
            fs::remove_dir_all(&to).expect("removed");
        }
    }
    println!("{:24} {:>9} {:>9}", "", "wall", "cpu");
    for (name, (wall, cpu)) in ["unpack, checked, synced", "decode | tar -x; sync"].iter().zip(best) {
        println!("{name:24} {:>7} ms {:>6} ms", wall.as_millis(), cpu.as_millis());
    }
    println!("ratio {:.2}", best[0].0.as_secs_f64() / best[1].0.as_secs_f64());
}

fn pack(dir: &Path) -> PathBuf {
    let blob = dir.join("layer.tar.gz");
    let status = Command::new("tar").arg("-czf").arg(&blob).args(["-C", "/", "usr/lib"]).status();
    assert!(status.is_ok_and(|status| status.success()), "tar packs /usr/lib");
    blob
}

fn hash(mut from: impl Read) -> Digest {
    let mut hasher = digest::Hasher::new(digest::Algorithm::Sha256);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match from.read(&mut buffer).expect("it is read") {
            0 => return hasher.finish(),
            n => hasher.update(&buffer[..n]),
        }
    }
}

fn ours(blob: &Path, blob_digest: &Digest, diff_id: &Digest, to: &Path) {
    let file = File::open(blob).expect("a blob");
    let blob = Verifying::new(file, blob_digest.clone(), None).expect("sha256");
    unpack::unpack(blob, diff_id, to, &unpack::Options::default()).expect("a good layer");
}

fn tar(blob: &Path, to: &Path) {
    fs::create_dir(to).expect("a directory");
    let mut decode = Command::new(std::env::current_exe().expect("this program"))
        .env("KIT_BENCH_DECODE", blob)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program runs");
    let stdout = decode.stdout.take().expect("a pipe");
    let tar = ["--extract", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-permissions"];
    let status = Command::new("tar").args(tar).arg("-C").arg(to).stdin(stdout).args(["-f", "-"]).status();
    assert!(status.is_ok_and(|status| status.success()), "tar takes the layer");
    assert!(decode.wait().is_ok_and(|status| status.success()), "the layer is decoded");
    Command::new("sync").arg("-f").arg(to).status().expect("sync");
}

fn cost(run: impl FnOnce()) -> Cost {
    let (start, used) = (Instant::now(), cpu());
    run();
    (start.elapsed(), cpu().saturating_sub(used))
}

/// Processor time of this process and of those it has waited for: fields 14 to 17 of proc(5)'s stat, in 1/100 s.
fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("proc is mounted");
    let after = stat.rsplit_once(')').expect("a name in brackets").1;
    let ticks =
        after.split_whitespace().skip(11).take(4).map(|field| field.parse::<u64>().expect("a number"));
    Duration::from_millis(ticks.sum::<u64>() * 10)
}
