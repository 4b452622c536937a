//! `inlay-nested CMD [ARGS]`: runs a command in a machine that has a working `/dev/kvm`, and whose file system is this one's. Its
//! status is the command's; 255 when that could not be run, 254 when the machine itself broke down meanwhile.

use std::process::ExitCode;

use inlay_tests::nested;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.first().map(String::as_str) {
        Some("--serve") => nested::server::serve().map(|()| ExitCode::SUCCESS),
        Some("--guest") => nested::guest::serve().map(|()| ExitCode::SUCCESS),
        Some(_) => nested::run(words),
        None => Err(anyhow::anyhow!("usage: inlay-nested CMD [ARGS]")),
    };
    done.unwrap_or_else(|error| {
        eprintln!("inlay-nested: {error:#}");
        ExitCode::from(if error.is::<nested::Gone>() { nested::GONE } else { 255 })
    })
}
