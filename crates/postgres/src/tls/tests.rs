use super::*;
use std::process::Command;

/// Runs handshakes in memory: `None` when the client accepts the server.
fn handshake(conninfo: &Conninfo, host: &str, cert: &Path, key: &Path) -> Option<String> {
    let client = match client_config(conninfo, host) {
        Ok(config) => config,
        Err(e) => return Some(e.to_string()),
    };
    let server = server_config(cert, key, None, None).unwrap();
    let name = rustls::pki_types::ServerName::try_from(host.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = rustls::ServerConnection::new(server).unwrap();
    for _ in 0..10 {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets().ok();
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        if let Err(e) = client.process_new_packets() {
            return Some(e.to_string());
        }
    }
    client
        .is_handshaking()
        .then(|| "the handshake does not end".to_owned())
}

fn conninfo(mode: SslMode, root: Option<&Path>) -> Conninfo {
    Conninfo {
        sslmode: Some(mode),
        // A path that does not exist keeps the files of the person who runs the tests out.
        sslrootcert: Some(
            root.unwrap_or(Path::new("/nonexistent/root.crt"))
                .to_owned(),
        ),
        sslcert: Some("/nonexistent/client.crt".into()),
        ..Conninfo::default()
    }
}

#[test]
fn our_own_certificate_is_its_own_root_in_every_mode() {
    let dir = tempfile::tempdir().unwrap();
    let files = crate::certs::ensure_self_signed(dir.path(), "node1").unwrap();
    for mode in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
        let c = conninfo(mode, Some(&files.cert));
        assert_eq!(
            handshake(&c, "node1", &files.cert, &files.key),
            None,
            "{mode}"
        );
    }
}

#[test]
fn verify_full_refuses_another_host_and_verify_ca_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let files = crate::certs::ensure_self_signed(dir.path(), "node1").unwrap();
    let full = conninfo(SslMode::VerifyFull, Some(&files.cert));
    let refused = handshake(&full, "node2", &files.cert, &files.key).unwrap();
    assert!(refused.contains("NotValidForName"), "{refused}");
    let ca = conninfo(SslMode::VerifyCa, Some(&files.cert));
    assert_eq!(handshake(&ca, "node2", &files.cert, &files.key), None);
}

#[test]
fn require_verifies_nothing_without_a_root_and_the_chain_with_one() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = crate::certs::ensure_self_signed(a.path(), "node1").unwrap();
    let other = crate::certs::ensure_self_signed(b.path(), "node1").unwrap();
    for mode in [SslMode::Prefer, SslMode::Require] {
        let c = conninfo(mode, None);
        assert_eq!(handshake(&c, "node1", &server.cert, &server.key), None);
        let c = conninfo(mode, Some(&other.cert));
        assert!(handshake(&c, "node1", &server.cert, &server.key).is_some());
    }
    for mode in [SslMode::VerifyCa, SslMode::VerifyFull] {
        let missing = handshake(&conninfo(mode, None), "node1", &server.cert, &server.key).unwrap();
        assert!(missing.contains("needs a root certificate"), "{missing}");
    }
}

/// What the old program makes: `openssl req -x509`, marked as a CA, the host in the common name.
#[test]
fn a_certificate_of_the_old_program_is_accepted_as_its_own_root() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("server.crt"), dir.path().join("server.key"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-new",
            "-x509",
            "-days",
            "365",
            "-nodes",
            "-subj",
            "/CN=node1",
            "-out",
        ])
        .arg(&cert)
        .arg("-keyout")
        .arg(&key)
        .output();
    if !made.is_ok_and(|out| out.status.success()) {
        eprintln!("SKIPPED: no openssl command");
        return;
    }
    let c = conninfo(SslMode::VerifyFull, Some(&cert));
    assert_eq!(handshake(&c, "node1", &cert, &key), None);
    assert!(handshake(&c, "node2", &cert, &key).is_some());
}

#[test]
fn a_ca_signs_and_its_revocation_list_is_heard() {
    let dir = tempfile::tempdir().unwrap();
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![
        rcgen::KeyUsagePurpose::KeyCertSign,
        rcgen::KeyUsagePurpose::CrlSign,
    ];
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::from_params(&params, &ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut leaf = rcgen::CertificateParams::new(vec!["*.example.org".to_owned()]).unwrap();
    leaf.serial_number = Some(77u64.into());
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let file = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let root = file("ca.crt", ca.pem());
    let (cert, key) = (
        file("leaf.crt", leaf.pem()),
        file("leaf.key", key.serialize_pem()),
    );
    let mut c = conninfo(SslMode::VerifyFull, Some(&root));
    assert_eq!(handshake(&c, "node1.example.org", &cert, &key), None);
    assert!(handshake(&c, "a.b.example.org", &cert, &key).is_some());
    let revoked = |serial: u64| {
        let date = rcgen::date_time_ymd(2024, 1, 1);
        rcgen::CertificateRevocationListParams {
            this_update: date,
            next_update: rcgen::date_time_ymd(2050, 1, 1),
            crl_number: 1u64.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![rcgen::RevokedCertParams {
                serial_number: serial.into(),
                revocation_time: date,
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        }
        .signed_by(&issuer)
        .unwrap()
        .pem()
        .unwrap()
    };
    c.sslcrl = Some(file("other.crl", revoked(5)));
    assert_eq!(handshake(&c, "node1.example.org", &cert, &key), None);
    c.sslcrl = Some(file("ours.crl", revoked(77)));
    assert!(
        handshake(&c, "node1.example.org", &cert, &key)
            .unwrap()
            .contains("Revoked")
    );
}

#[test]
fn files_that_are_not_what_they_should_be_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let files = crate::certs::ensure_self_signed(dir.path(), "node1").unwrap();
    let missing = server_config(Path::new("/nonexistent"), &files.key, None, None).unwrap_err();
    assert_eq!(missing.to_string(), "cannot read `/nonexistent`");
    let swapped = server_config(&files.key, &files.cert, None, None).unwrap_err();
    assert!(
        swapped.to_string().contains("holds no certificate"),
        "{swapped}"
    );
    let key = dir.path().join("encrypted.key");
    std::fs::write(
        &key,
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    .unwrap();
    let encrypted = server_config(&files.cert, &key, None, None).unwrap_err();
    assert!(
        encrypted.to_string().contains("is encrypted"),
        "{encrypted}"
    );
}
