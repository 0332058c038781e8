"""People of a Label Studio beside its first user: who signed up by the invitation link."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace

import requests
from support.label_studio import RunningLabelStudio


@dataclass(frozen=True)
class Person:
    """Somebody who is logged in, as a browser is."""

    session: requests.Session
    label_studio: RunningLabelStudio  # as this person: with their name and password
    personal_access_token: str

    def request(self, method: str, path: str, **options: object) -> requests.Response:
        headers = {"X-CSRFToken": self.session.cookies["csrftoken"]}
        url = self.label_studio.url + path
        return self.session.request(method, url, headers=headers, timeout=30, **options)  # type: ignore[arg-type]


def join(label_studio: RunningLabelStudio) -> Person:
    """A new person of this Label Studio, with a personal access token."""
    email, password = f"{secrets.token_hex(4)}@example.com", secrets.token_hex(8)
    invitation = label_studio.request("GET", "/api/invite").json()["invite_url"]
    session = requests.Session()
    page = label_studio.url + invitation
    session.get(page, timeout=30).raise_for_status()
    form = {"email": email, "password": password, "csrfmiddlewaretoken": session.cookies["csrftoken"]}
    session.post(page, data=form, headers={"Referer": page}, timeout=30).raise_for_status()
    account = replace(label_studio, username=email, password=password, api_key="")
    made = Person(session, account, "").request("POST", "/api/token/")
    made.raise_for_status()
    return Person(session, account, made.json()["token"])
