//! What a command says beside its result.

/// Writes a line to standard error. Nobody may be there to read it, which must not end a command that
/// has done something already, as `eprintln!` would.
#[macro_export]
macro_rules! note {
    ($($text:tt)*) => {{
        use ::std::io::Write;
        let _ = ::std::writeln!(::std::io::stderr(), $($text)*);
    }};
}
