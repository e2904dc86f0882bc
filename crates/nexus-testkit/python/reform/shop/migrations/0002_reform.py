from django.db import migrations, models


def trim(apps, _):
    for customer in apps.get_model("shop", "Customer").objects.filter(id__lte=30):
        customer.name = customer.name.strip()
        customer.save()
    label = apps.get_model("shop", "Label")
    label.objects.bulk_create(label(text=text) for text in ["a", "b", "c"])


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [
        migrations.AddField("Order", "status", models.CharField(max_length=20, default="open")),
        migrations.RemoveField("Order", "legacy"),
        migrations.CreateModel(
            "Label",
            [("id", models.BigAutoField(primary_key=True)), ("text", models.CharField(max_length=40))],
        ),
        migrations.RunPython(trim),
    ]
