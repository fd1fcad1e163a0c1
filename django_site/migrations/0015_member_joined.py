import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('django_site', '0014_pace_address'),
    ]

    operations = [
        migrations.AddField(
            model_name='member',
            name='joined',
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
        ),
    ]
