//! `inlay`: the command line and all host processes.

fn main() -> std::process::ExitCode {
    inlay::cli::main()
}
