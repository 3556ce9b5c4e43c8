//! What anybody may send as `Authorization`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use routemaster::http::authentication::{basic_credentials, user_names};

fuzz_target!(|header: &[u8]| {
    let Some(credentials) = basic_credentials(header) else { return };
    for name in user_names(&credentials) {
        assert_eq!(credentials.as_bytes().get(name.len()), Some(&b':'));
    }
});
