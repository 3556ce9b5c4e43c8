//! The help that is about all commands: which there are, in groups, and what to try first.

/// The groups of commands in the order in which people need them. What is in none comes last.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Running the bus", &["serve", "web", "worker"]),
    ("Every day", &["publish", "listen", "subscribe", "unsubscribe", "replay"]),
    (
        "What waits, and what went wrong",
        &[
            "subscriptions",
            "queue",
            "pause",
            "resume",
            "retry",
            "skip",
            "dead-letters",
            "trace",
            "journal",
        ],
    ),
    ("Calls and messages", &["call", "calls", "messages", "message-topics", "message-publishers"]),
    (
        "For its operator",
        &[
            "doctor",
            "ps",
            "drain",
            "profile",
            "pulse",
            "topics",
            "token",
            "bench",
            "autodrop",
            "import",
            "completions",
        ],
    ),
];

pub const AFTER_HELP: &str = "\
Without a command, the bus is served: `routemaster` alone is `routemaster serve`.
Each setting is an environment variable, a line in a .env file, or a flag; a flag wins.
`routemaster serve --help` lists them all, `routemaster COMMAND --help` shows examples.

Examples:
  routemaster                      start a bus on this machine
  routemaster listen widgets       in another terminal: see what arrives
  routemaster publish widgets create https://example.com/widgets/1
  routemaster subscriptions        who receives what, and how much waits
  routemaster doctor               something is wrong: what, and what to do

Exit codes: 0 it is done, 1 it failed, 2 the command line or a setting is wrong.";

pub const SERVE: &str = "\
Examples:
  routemaster serve
  routemaster serve --port 8443 --data-dir /var/lib/routemaster
  ROUTEMASTER_REDIS_URL=redis://redis.internal routemaster serve

`routemaster doctor` reads the same settings, and says what is wrong with them.";

pub const ROLE: &str = "\
Processes of a bus share a store: give all of them the same settings.

Examples:
  ROUTEMASTER_REDIS_URL=redis://redis.internal routemaster web
  ROUTEMASTER_REDIS_URL=redis://redis.internal routemaster worker";

pub const AUTODROP: &str = "\
It takes the settings of `routemaster serve`, as flags too.

Examples:
  routemaster autodrop --dry-run
  routemaster autodrop --dry-run --sqlite-max-bytes 5GB
  routemaster autodrop --json";

pub const IMPORT: &str = "\
It takes the settings of `routemaster serve`, as flags too. docs/moving-in.md tells how to move.

Examples:
  routemaster import --from redis://old.internal/0 --dry-run
  routemaster import --from redis://old.internal/0 --skip-events
  echo $OLD_REDIS_URL | routemaster import --from - --json";

/// The layout of the help, with the commands of `cli` in groups.
pub fn template(cli: &clap::Command) -> String {
    let header = *cli.get_styles().get_header();
    let literal = *cli.get_styles().get_literal();
    let all = || cli.get_subcommands().map(clap::Command::get_name);
    let width = all().map(str::len).max().unwrap_or(0);
    let mut text = String::from("{about-with-newline}\n{usage-heading} {usage}\n");
    let mut add = |title: &str, names: &[&str]| {
        text += &format!("\n{header}{title}:{header:#}\n");
        for command in names.iter().filter_map(|name| cli.find_subcommand(name)) {
            let name = command.get_name();
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let gap = " ".repeat(width - name.len());
            text += &format!("  {literal}{name}{literal:#}{gap}  {about}\n");
        }
    };
    for (title, names) in GROUPS {
        add(title, names);
    }
    let grouped = |name: &&str| GROUPS.iter().any(|(_, names)| names.contains(name));
    let rest: Vec<_> = all().filter(|name| !grouped(name)).collect();
    if !rest.is_empty() {
        add("Others", &rest);
    }
    text + &format!("\n{header}Options:{header:#}\n{{options}}{{after-help}}")
}

/// The same commands with prose behind their options that is as wide as the terminal: its paragraphs are not broken
/// where their source is. Examples and lists, which are indented, stay as they are.
pub fn flowing(command: clap::Command) -> clap::Command {
    let command = match command.get_after_help().map(|help| paragraphs_of(&help.to_string())) {
        Some(after) => command.after_help(after),
        None => command,
    };
    command.mut_subcommands(flowing)
}

fn paragraphs_of(text: &str) -> String {
    let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
    let mut flowing = String::new();
    let mut goes_on = false;
    for line in text.lines() {
        flowing += match (flowing.is_empty(), goes_on && is_prose(line)) {
            (true, _) => "",
            (false, true) => " ",
            (false, false) => "\n",
        };
        flowing += line;
        goes_on = is_prose(line) && !line.ends_with(':');
    }
    flowing
}
