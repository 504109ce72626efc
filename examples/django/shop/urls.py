"""The addresses."""

from django.contrib import admin
from django.urls import path

from shop import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("reports/", views.order),
    path("reports/<int:report_id>/", views.show),
]
