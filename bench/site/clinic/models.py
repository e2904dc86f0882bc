"""Patients and what a clinic keeps of them. No relation has a table of its own: dumpdata would ask for each row."""

from django.db import models


class Patient(models.Model):
    number = models.UUIDField(unique=True)
    first_name = models.CharField(max_length=80)
    last_name = models.CharField(max_length=80, db_index=True)
    born = models.DateField(null=True)
    balance = models.DecimalField(max_digits=9, decimal_places=2)
    weight = models.FloatField(null=True)
    notes = models.TextField(blank=True)
    intake = models.JSONField()
    is_active = models.BooleanField()
    changed_at = models.DateTimeField()


class Visit(models.Model):
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE)
    begins = models.DateTimeField()
    room = models.SmallIntegerField(null=True)
    kind = models.CharField(max_length=40)
    note = models.TextField()
    fee = models.DecimalField(max_digits=9, decimal_places=2)
    is_paid = models.BooleanField()


class Result(models.Model):
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE)
    code = models.CharField(max_length=20)
    value = models.FloatField(null=True)
    unit = models.CharField(max_length=20)
    taken_at = models.DateTimeField()
    flags = models.IntegerField(null=True)


class Document(models.Model):
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE)
    title = models.CharField(max_length=200)
    file = models.FileField(upload_to="documents", max_length=1024)
    fingerprint = models.BinaryField()
    bytes = models.BigIntegerField()
    added_on = models.DateField()
