"""Patients, their documents and photos: every kind of column such a site has."""

import uuid

from django.conf import settings
from django.db import models


class Tag(models.Model):
    name = models.CharField(max_length=40, unique=True)


class Patient(models.Model):
    number = models.UUIDField(default=uuid.uuid4, unique=True)
    first_name = models.CharField(max_length=80)
    last_name = models.CharField(max_length=80, db_index=True)
    born = models.DateField(null=True)
    balance = models.DecimalField(max_digits=9, decimal_places=2, default=0)
    weight = models.FloatField(null=True)
    notes = models.TextField(blank=True)
    intake = models.JSONField(default=dict)
    fingerprint = models.BinaryField(null=True)
    is_active = models.BooleanField(default=True)
    changed_at = models.DateTimeField()
    doctor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)
    tags = models.ManyToManyField(Tag)

    class Meta:
        indexes = [models.Index(fields=["last_name", "first_name"])]


class Document(models.Model):
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE)
    title = models.CharField(max_length=200)
    file = models.FileField(upload_to="documents/2025/11", max_length=1024, blank=True)
    bytes = models.BigIntegerField(default=0)


class Photo(models.Model):
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE)
    image = models.ImageField(
        upload_to="photos", max_length=1024, width_field="width", height_field="height", null=True
    )
    width = models.PositiveIntegerField(null=True)
    height = models.PositiveIntegerField(null=True)
