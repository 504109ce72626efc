"""Settings: the only lines about sandboxq are the app and TASKS."""

import os
from pathlib import Path
from typing import Any

import django

SECRET_KEY = "an example keeps no secrets"  # noqa: S105 - it is what it says
DEBUG = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "sandboxq.integrations.django",
    "shop",
]
if django.VERSION < (6,):
    INSTALLED_APPS.append("django_tasks")

TASKS: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "sandboxq.integrations.django.Backend",
        "QUEUES": ["reports"],
        "OPTIONS": {"on_commit": True, "attempts": 2, "timeout": 60},
    },
}

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SHOP_DATABASE", Path(__file__).parents[1] / "shop.sqlite3"),
        "CONN_MAX_AGE": 600,
        "OPTIONS": {"timeout": 20},
    },
}
STATIC_URL = "static/"
