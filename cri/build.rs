//! Makes Rust of `proto/`: messages always, clients and servers as the features ask.

use protox::Compiler;
use std::error::Error;
use std::path::Path;

const FILES: [&str; 2] = ["runtime_service.proto", "image_service.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut compiler = Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true).open_files(FILES)?;
    // The tests compare it with what others have.
    let out = std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?;
    std::fs::write(Path::new(&out).join("runtime.v1.binpb"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .build_client(std::env::var_os("CARGO_FEATURE_CLIENT").is_some())
        .build_server(std::env::var_os("CARGO_FEATURE_SERVER").is_some())
        // Connections are the caller's.
        .build_transport(false)
        // A runtime implements what it can; the rest answers `UNIMPLEMENTED`.
        .generate_default_stubs(true)
        // One message has one encoding.
        .btree_map(".")
        // It has its own, which keeps secrets.
        .skip_debug([".runtime.v1.AuthConfig"])
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
