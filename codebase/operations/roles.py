"""Makes owners and roles of both stores, as their superusers: before migrations, at every start."""

from __future__ import annotations

import secrets

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from codebase.foundation.postgres import connect
from codebase.foundation.rights import Login, as_superuser, set_password, set_up
from codebase.foundation.settings import Settings
from codebase.operations.migrate import READ_MODEL_ROLES, WRITE_MODEL_ROLES

HELPER = "orderly_takeover"
"""A superuser for a moment: nobody can rename himself."""
DROP_HELPER = sql.SQL("DROP ROLE IF EXISTS {helper}").format(helper=sql.Identifier(HELPER))
CREATE_HELPER = sql.SQL("CREATE ROLE {helper} LOGIN SUPERUSER").format(
    helper=sql.Identifier(HELPER)
)
RENAME = sql.SQL("ALTER ROLE {owner} RENAME TO {superuser}")
CREATE_OWNER = sql.SQL("CREATE ROLE {owner}")
# The first superuser, whom initdb makes, has this id; he cannot be made an ordinary role.
IS_FIRST = "SELECT oid = 10 FROM pg_roles WHERE rolname = current_user"
# What was made by the first superuser, and what he has let others do with what he makes.
HAND_OVER = """
    WITH ours AS (
        SELECT oid FROM pg_namespace
        WHERE nspname = 'public'
           OR nspowner = 10 AND nspname !~ '^pg_' AND nspname <> 'information_schema'
    )
    SELECT format('ALTER SCHEMA %%s OWNER TO %%I', oid::regnamespace, %(owner)s::text)
    FROM pg_namespace WHERE nspowner = 10 AND oid IN (SELECT oid FROM ours)
    AND nspname <> 'public'
    UNION ALL
    SELECT format('ALTER TABLE %%s OWNER TO %%I', oid::regclass, %(owner)s::text) FROM pg_class
    WHERE relowner = 10 AND relnamespace IN (SELECT oid FROM ours)
    AND relkind IN ('r', 'p', 'v', 'm')
    UNION ALL
    SELECT format('ALTER ROUTINE %%s OWNER TO %%I', oid::regprocedure, %(owner)s::text) FROM pg_proc
    WHERE proowner = 10 AND pronamespace IN (SELECT oid FROM ours)
    UNION ALL
    SELECT format(
        'ALTER DEFAULT PRIVILEGES FOR ROLE %%I GRANT %%s ON TABLES TO %%s',
        %(owner)s::text, privilege_type, grantee::regrole
    )
    FROM pg_default_acl, aclexplode(defaclacl)
    WHERE defaclrole = 10 AND defaclobjtype = 'r' AND grantee NOT IN (0, 10)
"""


def set_up_roles(settings: Settings) -> list[str]:
    """Make what is missing of both stores; what is there and has too many rights loses them.

    Args:
        settings: the addresses of the superusers, the owners, and every role that there is to be.

    Returns:
        What somebody could do, and can no more: a sentence each.

    Raises:
        ConfigurationError: an address is missing.
        psycopg.Error: a store cannot be reached or refuses.
    """
    lost = []
    for store, fields in (("write_model", WRITE_MODEL_ROLES), ("read_model", READ_MODEL_ROLES)):
        superuser_url = settings.required(f"{store}_superuser_url")
        owner_url = settings.required(f"{store}_owner_url")
        roles = [Login.of(settings.required(field)) for field in fields]
        lost += take_over(superuser_url, owner_url)
        lost += set_up(superuser_url, Login.of(owner_url), roles)
    return lost


def take_over(superuser_url: str, owner_url: str) -> list[str]:
    """Part the owner from a cluster's first superuser, where an earlier release made them one.

    The first superuser gets the name and password that the superuser's address says, and a new
    role, which is the owner from now on, all that he had made.

    Raises:
        psycopg.Error: the superuser cannot connect, and not because he is the owner.
    """
    owner = Login.of(owner_url)
    try:
        as_superuser(superuser_url, owner.database).close()
    except psycopg.OperationalError:
        if not _is_first(owner_url):
            raise
        _part(superuser_url, owner_url)
        lost = [f"{owner.role} of {owner.database} is no longer SUPERUSER"]
    else:
        lost = []
    with as_superuser(superuser_url, owner.database) as superuser:
        superuser.execute(DROP_HELPER)
    return lost


def _is_first(owner_url: str) -> bool:
    try:
        with connect(owner_url, "roles") as owner:
            return owner.execute(IS_FIRST).fetchone() == (True,)
    except psycopg.OperationalError:
        return False


def _part(superuser_url: str, owner_url: str) -> None:
    """Do it, all or nothing but for the helper, whom a later start removes."""
    superuser, owner = Login.of(superuser_url), Login.of(owner_url)
    password = secrets.token_hex(24)
    with as_superuser(owner_url, owner.database) as first:
        first.execute(DROP_HELPER)
        first.execute(CREATE_HELPER)
        set_password(first, HELPER, password)
    helper_url = make_conninfo(superuser_url, user=HELPER, password=password)
    with as_superuser(helper_url, owner.database) as helper, helper.transaction():
        names = {"owner": sql.Identifier(owner.role), "superuser": sql.Identifier(superuser.role)}
        helper.execute(RENAME.format(**names))
        set_password(helper, superuser.role, superuser.password)
        helper.execute(CREATE_OWNER.format(**names))
        statements = helper.execute(HAND_OVER, {"owner": owner.role}).fetchall()
        for (statement,) in statements:
            helper.execute(statement)
