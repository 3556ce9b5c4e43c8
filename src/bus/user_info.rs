//! User and password in the text of a URL, which must stay as it is otherwise.

use percent_encoding::percent_decode_str;

use super::basic;

/// Where in a URL its path begins, or its query or fragment; its end if it has none of them.
pub fn authority_end(url: &str) -> usize {
    let start = url.find("://").map_or(0, |at| at + 3);
    url[start..].find(['/', '?', '#']).map_or(url.len(), |end| start + end)
}

/// A URL without what stands before the `@` of its host, and that.
pub fn taken_out(url: &str) -> (String, Option<&str>) {
    let start = url.find("://").map_or(0, |at| at + 3);
    match url[start..authority_end(url)].rfind('@') {
        None => (url.to_owned(), None),
        Some(at) => {
            let user_info = &url[start..start + at];
            (format!("{}{}", &url[..start], &url[start + at + 1..]), Some(user_info))
        }
    }
}

/// The Basic authorisation that user and password of a URL stand for, both percent-encoded.
pub fn authorization(user: &str, password: &str) -> String {
    let decoded = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
    basic::authorization(&decoded(user), &decoded(password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_info_is_taken_out_of_the_authority_alone() {
        for (url, rest, user_info) in [
            ("http://u:p@a.example/x@y", "http://a.example/x@y", Some("u:p")),
            ("http://u@b@a.example?@", "http://a.example?@", Some("u@b")),
            ("http://a.example", "http://a.example", None),
            ("", "", None),
        ] {
            assert_eq!(taken_out(url), (rest.to_owned(), user_info));
        }
    }
}
