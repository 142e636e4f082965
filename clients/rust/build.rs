//! Generates the stubs of hyrex.v1 from the repository's protos, without a protoc.

const PROTOS: &str = "../../proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={PROTOS}/hyrex/v1");
    let files = ["error", "task_service", "worker_service", "workflow_service"]
        .map(|name| format!("hyrex/v1/{name}.proto"));
    let descriptors = protox::compile(files, [PROTOS])?;
    tonic_prost_build::configure().build_server(false).compile_fds(descriptors)?;
    Ok(())
}
