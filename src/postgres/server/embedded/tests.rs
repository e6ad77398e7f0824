#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::os::unix::fs::PermissionsExt as _;

use super::testing::Server;
use super::*;

async fn answer(embedded: &Embedded) -> i32 {
    let client = crate::postgres::connect(&embedded.config()).await.unwrap();
    client
        .query_one("select pg_postmaster_start_time(), 42", &[])
        .await
        .unwrap()
        .get(1)
}

fn pid(embedded: &Embedded) -> String {
    pid_line(&embedded.place.cluster(), 0).unwrap()
}

#[tokio::test]
async fn a_server_left_running_is_adopted_and_a_stale_pid_file_is_survived() {
    let server = Server::start(0o755).await;
    let dir = server.embedded.dir().to_owned();
    let again = Embedded::start(&dir).await.unwrap();
    assert_eq!(pid(&again), pid(&server.embedded));
    assert_eq!(answer(&again).await, 42);

    let left = fs::read_to_string(dir.join("cluster/postmaster.pid")).unwrap();
    again.stop().await.unwrap();
    assert!(!dir.join("cluster/postmaster.pid").exists());
    // The process that the file names is now a stranger: this test.
    let rest = left.split_once('\n').unwrap().1;
    let stale = format!("{}\n{rest}", std::process::id());
    fs::write(dir.join("cluster/postmaster.pid"), stale).unwrap();
    let third = Embedded::start(&dir).await.unwrap();
    assert_eq!(answer(&third).await, 42);
}

#[tokio::test]
async fn where_no_cluster_is_none_is_made_for_whoever_needs_one_that_exists() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("file"));
    fs::write(&file, "").unwrap();
    for wrong in [&data, &data.join("below"), &file, &file.join("below")] {
        let error = Embedded::start_existing(wrong).await.unwrap_err();
        let expected = format!(
            "database.dir: {} holds no database; the folder of the collector would be right",
            wrong.display()
        );
        assert_eq!(format!("{error:#}"), expected);
        assert!(!data.exists() && !place_elsewhere(wrong).exists());
    }
    // What a start that was killed leaves is no database yet.
    fs::create_dir_all(data.join("new")).unwrap();
    assert!(Embedded::start_existing(&data).await.is_err());
    assert!(!data.join("cluster").exists());

    let server = Server::start(0o755).await;
    let again = Embedded::start_existing(server.embedded.dir())
        .await
        .unwrap();
    assert_eq!(pid(&again), pid(&server.embedded));
    assert_eq!(answer(&again).await, 42);
}

#[tokio::test]
async fn two_starts_at_once_share_one_server() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let data = dir.path().join("it's data");
    fs::create_dir(&data).unwrap();
    // What a start that was killed leaves.
    fs::create_dir(data.join("new")).unwrap();
    let (one, two) = tokio::join!(Embedded::start(&data), Embedded::start(&data));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(pid(&one), pid(&two));
    assert_eq!(answer(&two).await, 42);
    let parsed: Config = one.conninfo().parse().unwrap();
    assert!(crate::postgres::connect(&parsed).await.is_ok());
    one.stop_with("immediate").unwrap();
}

#[tokio::test]
async fn a_folder_that_only_root_can_enter_or_too_long_a_path_works() {
    if !Uid::effective().is_root() {
        return;
    }
    let server = Server::start(0o700).await;
    assert!(server.embedded.dir().starts_with(ELSEWHERE));
    assert_eq!(answer(&server.embedded).await, 42);

    let long = Path::new("/tmp").join("x".repeat(100));
    let place = find_place(&long).unwrap();
    assert!(place.dir.starts_with(ELSEWHERE) && !long.exists());
    fs::remove_dir(&place.dir).unwrap();
}

#[test]
fn a_shell_s_open_files_are_not_inherited() {
    let inherited = |through: &str| {
        let mut command = Command::new("/bin/sh");
        let opens = r#"exec 9>/dev/null; exec /bin/sh -c "$0" "$@""#;
        command.args(["-c", opens, through, "/bin/ls", "/proc/self/fd"]);
        let listed = String::from_utf8(command.output().unwrap().stdout).unwrap();
        assert!(listed.lines().any(|file| file == "1"), "{listed}");
        listed.lines().any(|file| file == "9")
    };
    assert!(inherited(r#"exec "$0" "$@""#));
    assert!(!inherited(WITHOUT_INHERITED_FILES));
}

#[test]
fn versions_are_read_from_what_postgres_prints() {
    let major = installation::major_of;
    assert_eq!(
        major("postgres (PostgreSQL) 15.12 (Debian 15.12-1)"),
        Some(15)
    );
    assert_eq!(major("15\n"), Some(15));
    assert_eq!(major("postgres (PostgreSQL) 18beta1"), Some(18));
    assert_eq!(major("none"), None);
    let absent = installation::find(Some(7)).unwrap_err().to_string();
    assert!(absent.contains("apt-get install postgresql-7"), "{absent}");
}
