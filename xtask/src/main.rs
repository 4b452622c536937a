//! Inlay's own tasks: `cargo xtask setup | demo | test | bench | fuzz | prepush`.
//!
//! Each sets up what it needs and only that; the second time it takes seconds. Root is asked for (by sudo) only to install
//! packages, and only when some are missing.
#![expect(clippy::print_stdout, reason = "a tool that talks to its user")]

mod apt;
mod demo;
mod fuzz;
mod packages;
mod setup;
mod shell;
mod test;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
cargo xtask TASK

  setup                               install missing packages, build, make the machine `demo`
  demo [--headless] [--screenshot FILE]
                                      set up, then show two guest apps as windows of this desktop; with --headless
                                      on a display of its own
  test [--quick]                      set up what the tests need and run all of them (--quick: those without a
                                      virtual machine)
  bench [ARGUMENTS...]                build for release and run the benchmarks
  fuzz [--minutes N] [--merge] [TARGET...]
                                      fuzz each target for N minutes (1); with --merge the committed corpora take
                                      what was found. Needs the nightly toolchain
  prepush                             formatting, lints, all tests";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let (task, rest) = match arguments.split_first() {
        Some((task, rest)) => (task.as_str(), rest),
        None => ("help", &[][..]),
    };
    match task {
        "setup" => {
            none_left(rest)?;
            setup::everything()
        }
        "demo" => demo::run(&demo_options(rest)?),
        "test" => match rest {
            [] => test::all(),
            [quick] if quick == "--quick" => test::quick(),
            _ => bail!("test takes --quick only"),
        },
        "bench" => test::bench(rest),
        "fuzz" => fuzz::run(&fuzz_options(rest)?),
        "prepush" => {
            none_left(rest)?;
            test::prepush()
        }
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(())
        }
        other => bail!("no such task: {other}\n\n{HELP}"),
    }
}

fn none_left(arguments: &[String]) -> Result<()> {
    match arguments.first() {
        Some(argument) => bail!("unknown argument {argument}"),
        None => Ok(()),
    }
}

fn demo_options(arguments: &[String]) -> Result<demo::Options> {
    let mut options = demo::Options { headless: false, screenshot: None };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--headless" => options.headless = true,
            "--screenshot" => match rest.next() {
                Some(file) => options.screenshot = Some(PathBuf::from(file)),
                None => bail!("--screenshot needs a file"),
            },
            other => bail!("unknown argument {other}"),
        }
    }
    Ok(options)
}

fn fuzz_options(arguments: &[String]) -> Result<fuzz::Options> {
    let mut options = fuzz::Options { minutes: 1, targets: Vec::new(), merge: false };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--merge" => options.merge = true,
            "--minutes" => match rest.next().and_then(|number| number.parse().ok()) {
                Some(minutes @ 1..) => options.minutes = minutes,
                _ => bail!("--minutes needs a number"),
            },
            other if other.starts_with('-') => bail!("unknown argument {other}"),
            target => options.targets.push(target.to_owned()),
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let options = demo_options(&words("--screenshot a.png --headless")).unwrap();
        assert!(options.headless);
        assert_eq!(options.screenshot, Some("a.png".into()));
        assert!(demo_options(&words("--screenshot")).is_err());
        assert!(demo_options(&words("--frobnicate")).is_err());
        let options = fuzz_options(&words("gpu --minutes 3 vsock")).unwrap();
        assert_eq!((options.minutes, options.targets, options.merge), (3, words("gpu vsock"), false));
        assert!(fuzz_options(&words("--minutes")).is_err() && fuzz_options(&words("--minutes 0")).is_err());
        assert!(run(&words("nonsense")).is_err());
        assert!(run(&words("setup now")).is_err());
        run(&[]).unwrap();
    }
}
