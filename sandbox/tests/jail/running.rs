use super::harness::{launch, output, spec};

#[test]
fn a_program_runs_and_its_output_arrives() {
    let spec = spec(&[
        "say:hello",
        "cat:/proc/self/status",
        "env",
        "cat:/proc/self/mountinfo",
    ]);
    let jail = launch(&spec).unwrap();
    println!("{:?}", jail);
    println!("{}", output(&jail));
    println!("{:?}", jail.look(&spec));
}
