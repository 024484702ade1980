"""Who may do what in a store: an owner that is no superuser, and roles that belong to nobody else.

Set up by a superuser, and again at every start: what an earlier release or an operator has given is
taken back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import Connection, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from codebase.foundation.errors import ConfigurationError
from codebase.foundation.postgres import connect

# With the right to make roles Postgres 15 gives the right to join those that run programs.
NO_RIGHTS = "LOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS"
CREATE_ROLE = sql.SQL("CREATE ROLE {role} " + NO_RIGHTS)
TAKE_RIGHTS = sql.SQL("ALTER ROLE {role} " + NO_RIGHTS)
SET_PASSWORD = sql.SQL("ALTER ROLE {role} PASSWORD {password}")
LEAVE = sql.SQL("REVOKE {joined} FROM {role} GRANTED BY {grantor} CASCADE")
JOIN = sql.SQL("GRANT {joined} TO {role}")
CREATE_DATABASE = sql.SQL("CREATE DATABASE {database} OWNER {role}")
GIVE_DATABASE = sql.SQL("ALTER DATABASE {database} OWNER TO {role}")
RIGHTS = """
    SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls
    FROM pg_roles WHERE rolname = %(role)s
"""
NAMES_OF_RIGHTS = ("SUPERUSER", "CREATEROLE", "CREATEDB", "REPLICATION", "BYPASSRLS")
DATABASE_EXISTS = "SELECT FROM pg_database WHERE datname = %(database)s"
MEMBERSHIPS = """
    SELECT DISTINCT joined.rolname, coalesce(grantor.rolname, current_user)
    FROM pg_auth_members
    JOIN pg_roles AS joined ON joined.oid = roleid
    LEFT JOIN pg_roles AS grantor ON grantor.oid = pg_auth_members.grantor
    WHERE member = (SELECT oid FROM pg_roles WHERE rolname = %(role)s)
      AND joined.rolname <> %(may_join)s
"""
SEES_SESSIONS = "pg_read_all_stats"
"""For the owner: what oldest_snapshot_seconds() needs, which tells others one number of it."""

# What goes into a large object is seen by no constraint and counted by nobody. That this is how the
# functions are from the beginning is noted as well: or else pg_dump would write it into every dump,
# which then only a superuser could restore.
FORBID_LARGE_OBJECTS = r"""
    DO $$
    DECLARE
        of_large_objects oid;
    BEGIN
        FOR of_large_objects IN
            SELECT oid FROM pg_proc
            WHERE pronamespace = 'pg_catalog'::regnamespace
            AND (proname LIKE 'lo\_%' OR proname IN ('loread', 'lowrite'))
            AND has_function_privilege('public', oid, 'EXECUTE')
        LOOP
            EXECUTE format(
                'REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', of_large_objects::regprocedure
            );
            INSERT INTO pg_init_privs (objoid, classoid, objsubid, privtype, initprivs)
            SELECT oid, 'pg_proc'::regclass, 0, 'i', proacl FROM pg_proc
            WHERE oid = of_large_objects AND NOT EXISTS (
                SELECT FROM pg_init_privs
                WHERE objoid = of_large_objects AND classoid = 'pg_proc'::regclass
            );
        END LOOP;
    END
    $$
"""


@dataclass(frozen=True)
class Login:
    """A role, its password and its database."""

    role: str
    password: str
    database: str

    @classmethod
    def of(cls, url: str) -> Login:
        """What an address says.

        Args:
            url: libpq URL or key=value string.

        Raises:
            ConfigurationError: it leaves out one of the three.
        """
        said = conninfo_to_dict(url)
        found = [said.get(name) for name in ("user", "password", "dbname")]
        if not all(found):
            raise ConfigurationError("an address of a store names a user, a password, a database")
        return cls(*map(str, found))


def set_up(superuser_url: str, owner: Login, roles: Sequence[Login] = ()) -> list[str]:
    """Make a store and its roles, as they are to be.

    Args:
        superuser_url: of the cluster's superuser.
        owner: of the schema; its database is made if it is not there.
        roles: those that services use.

    Returns:
        What somebody had more than that, and has no more: a sentence each.

    Raises:
        psycopg.Error: the cluster cannot be reached, or this is no superuser.
    """
    with as_superuser(superuser_url, "postgres") as cluster:
        lost = _settle(cluster, owner, may_join=SEES_SESSIONS)
        lost += [sentence for login in roles for sentence in _settle(cluster, login)]
        names = {"database": sql.Identifier(owner.database), "role": sql.Identifier(owner.role)}
        cluster.execute(JOIN.format(joined=sql.Identifier(SEES_SESSIONS), role=names["role"]))
        there = cluster.execute(DATABASE_EXISTS, {"database": owner.database}).fetchone()
        cluster.execute((GIVE_DATABASE if there is not None else CREATE_DATABASE).format(**names))
    with as_superuser(superuser_url, owner.database) as store:
        store.execute(FORBID_LARGE_OBJECTS)
    return lost


def as_superuser(url: str, database: str) -> Connection:
    """A connection to one of the cluster's databases that finds only what is Postgres' own."""
    # Of two functions the one that fits better is called, and an owner may put any into `public`.
    there = make_conninfo(url, dbname=database)
    return connect(there, "rights", options="-c search_path=pg_catalog")


def set_password(cluster: Connection, role: str, password: str) -> None:
    """Give a role its password."""
    # Hashed here, so that no log of statements ever holds it.
    hashed = cluster.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
    cluster.execute(
        SET_PASSWORD.format(role=sql.Identifier(role), password=sql.Literal(hashed.decode()))
    )


def _settle(cluster: Connection, login: Login, may_join: str = "") -> list[str]:
    """Make a role, or take from it what it has too much; says what that was."""
    role = sql.Identifier(login.role)
    rights = cluster.execute(RIGHTS, {"role": login.role}).fetchone()
    cluster.execute((TAKE_RIGHTS if rights else CREATE_ROLE).format(role=role))
    set_password(cluster, login.role, login.password)
    lost = [name for name, given in zip(NAMES_OF_RIGHTS, rights or (), strict=False) if given]
    asked = {"role": login.role, "may_join": may_join}
    for joined, grantor in cluster.execute(MEMBERSHIPS, asked).fetchall():
        names = {"joined": sql.Identifier(joined), "grantor": sql.Identifier(grantor)}
        cluster.execute(LEAVE.format(role=role, **names))
        lost.append(f"a member of {joined}")
    return [f"{login.role} of {login.database} is no longer {what}" for what in lost]
