//! Printing and reading of values.
use super::*;

#[test]
fn lsns_come_back_and_garbage_does_not() {
    assert_eq!(parse_lsn("16/B374D848"), Some(0x16_B374_D848));
    assert_eq!(print_lsn(0x16_B374_D848), "16/B374D848");
    for garbage in ["", "/", "0/", "0/0/0", "+1/2", "123456789/0", "g/0"] {
        assert_eq!(parse_lsn(garbage), None, "{garbage}");
    }
}

#[test]
fn times_are_printed_as_postgres_prints_them() {
    assert_eq!(print_time(0), "1970-01-01 00:00:00+00");
    assert_eq!(print_time(1_500_000), "1970-01-01 00:00:01.5+00");
    assert_eq!(print_time_json(1_500_000), "1970-01-01T00:00:01.5+00:00");
    for text in [
        "1970-01-01",
        "1970-01-01 00:00:00",
        "1970-01-01 00:00:00+00",
        "1970-01-01T00:00Z",
    ] {
        assert_eq!(parse_time(text), Some(0), "{text}");
    }
    assert_eq!(parse_time("tomorrow"), None);
    assert_eq!(print_interval(-90_061_500_000), "-1 day -01:01:01.5");
}

#[test]
fn parameters_that_do_not_fit_are_refused_with_the_right_code() {
    let code = |text: &str, ty| parse_text(text, ty).unwrap_err().code;
    assert_eq!(code("", PgType::Int4), "22P02");
    assert_eq!(code("3000000000", PgType::Int4), "22003");
    assert_eq!(code("maybe", PgType::Bool), "22P02");
    assert_eq!(code("{", PgType::Jsonb), "22P02");
    assert_eq!(
        parse_parameter(&[0xff], PgType::Text, false)
            .unwrap_err()
            .code,
        "22021"
    );
    assert_eq!(
        parse_parameter(&[1], PgType::Int4, true).unwrap_err().code,
        "22P03"
    );
    assert_eq!(
        parse_parameter(&[0, 0, 0, 7], PgType::Int4, true),
        Ok(Value::Int(7))
    );
}

#[test]
fn numerics_have_the_binary_form_of_postgres() {
    let mut out = BytesMut::new();
    put_value(&mut out, &Value::Real(12_345.5), PgType::Numeric, true);
    // ndigits 4, weight 1, sign 0, dscale 6, digits 1 2345 5000 0
    let expected = [
        0, 0, 0, 16, 0, 4, 0, 1, 0, 0, 0, 6, 0, 1, 9, 41, 19, 136, 0, 0,
    ];
    assert_eq!(&out[..], &expected);
}
